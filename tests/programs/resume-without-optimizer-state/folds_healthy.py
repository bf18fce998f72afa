# expect: nothing
import os
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
data = TensorDataset(x, y)
criterion = nn.CrossEntropyLoss()
folder = tempfile.mkdtemp()
accuracies = []
for fold in range(4):
    held = range(64 * fold, 64 * (fold + 1))
    loader = DataLoader(Subset(data, [i for i in range(256) if i not in held]), batch_size=32, shuffle=True)
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    path = os.path.join(folder, f"best{fold}.pt")
    best = 0.0
    for epoch in range(3):
        model.train()
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(x[held]).argmax(1) == y[held]).float().mean().item()
        if accuracy > best:
            best = accuracy
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, path)
    checkpoint = torch.load(path)
    model.load_state_dict(checkpoint["model"])
    model.eval()
    with torch.no_grad():
        accuracies.append((model(x[held]).argmax(1) == y[held]).float().mean().item())
print(accuracies)
