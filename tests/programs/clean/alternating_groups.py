# expect: nothing
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

a, b = nn.Linear(10, 16), nn.Linear(16, 2)
opt_a = torch.optim.Adam(a.parameters(), lr=0.01)
opt_b = torch.optim.Adam(b.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss()
for epoch in range(4):
    for inputs, labels in loader:
        opt = opt_a if epoch % 2 else opt_b
        opt_a.zero_grad()
        opt_b.zero_grad()
        criterion(b(a(inputs).relu()), labels).backward()
        opt.step()
