# expect: nothing
import os
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
path = os.path.join(tempfile.mkdtemp(), "stage.pt")


def train(optimizer, epochs):
    for epoch in range(epochs):
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()
            optimizer.step()
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, path)


first = torch.optim.Adam(model.parameters(), lr=0.01)
train(first, 2)
model.load_state_dict(torch.load(path)["model"])
train(first, 1)  # the same optimizer goes on: it has its state
model.load_state_dict(torch.load(path)["model"])
train(torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9), 2)  # a second stage of its own
