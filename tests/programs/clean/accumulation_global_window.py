# expect: nothing
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss()

pending = 0
for epoch in range(6):
    for inputs, labels in loader:
        (criterion(model(inputs), labels) / 3).backward()
        pending += 1
        if pending == 3:
            optimizer.step()
            optimizer.zero_grad()
            pending = 0
