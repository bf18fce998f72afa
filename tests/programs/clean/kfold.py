# expect: nothing
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

from torch.utils.data import Subset

data = TensorDataset(x, y)
for fold in range(4):
    torch.manual_seed(0)
    held = set(range(fold * 64, fold * 64 + 64))
    train = DataLoader(Subset(data, [i for i in range(256) if i not in held]), batch_size=32, shuffle=True)
    valid = DataLoader(Subset(data, sorted(held)), batch_size=64)
    model = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(2):
        model.train()
        for inputs, labels in train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        print(sum((model(a).argmax(1) == b).sum().item() for a, b in valid) / 64)
