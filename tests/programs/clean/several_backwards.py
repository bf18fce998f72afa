# expect: nothing
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

body = nn.Linear(10, 16)
heads = nn.ModuleList([nn.Linear(16, 2), nn.Linear(16, 2)])
optimizer = torch.optim.SGD([*body.parameters(), *heads.parameters()], lr=0.05)
criterion = nn.CrossEntropyLoss()
for epoch in range(3):
    for inputs, labels in loader:
        optimizer.zero_grad()
        h = body(inputs).relu()
        for i, head in enumerate(heads):
            criterion(head(h), labels if i == 0 else 1 - labels).backward(retain_graph=i == 0)
        optimizer.step()
