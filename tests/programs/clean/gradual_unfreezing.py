# expect: nothing
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.SGD([{"params": m.parameters(), "lr": 0.05} for m in model if isinstance(m, nn.Linear)])
criterion = nn.CrossEntropyLoss()
for epoch in range(3):
    for i, m in enumerate(m for m in model if isinstance(m, nn.Linear)):
        m.requires_grad_(i >= 2 - epoch)
    for inputs, labels in loader:
        optimizer.zero_grad()
        criterion(model(inputs), labels).backward()
        optimizer.step()
