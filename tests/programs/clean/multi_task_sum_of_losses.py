# expect: nothing
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

body = nn.Linear(10, 16)
heads = [nn.Linear(16, 2) for _ in range(3)]
optimizer = torch.optim.SGD([p for m in (body, *heads) for p in m.parameters()], lr=0.02)
for epoch in range(3):
    for inputs, labels in loader:
        optimizer.zero_grad()
        for head in heads:
            nn.functional.cross_entropy(head(body(inputs).relu()), labels).backward()
        optimizer.step()
