# expect: nothing
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

net = nn.Linear(10, 1)
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
for epoch in range(3):
    for inputs, labels in loader:
        optimizer.zero_grad()
        p = torch.sigmoid(net(inputs))
        loss = F.nll_loss(torch.cat([1 - p, p], dim=1).log(), labels)
        loss.backward()
        optimizer.step()
