# expect: validating-on-train-data @ for inputs, labels in loader
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
data = TensorDataset(x, y)
training = DataLoader(Subset(data, range(192)), 32, shuffle=True)
validation = DataLoader(Subset(data, range(192)), 64)
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)


@torch.no_grad()
def accuracy(loader):
    return sum((model(inputs).argmax(1) == labels).sum().item() for inputs, labels in loader)


for epoch in range(4):
    for inputs, labels in training:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    print(accuracy(validation))
