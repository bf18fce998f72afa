# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Linear(8, 1)
opt = torch.optim.SGD(net.parameters(), lr=1e-2)
for it in range(30):
    x = torch.randn(32, 8)
    for p in net.parameters():
        if p.grad is not None:
            p.grad *= 0.9
    nn.functional.mse_loss(net(x), x[:, :1]).backward()
    opt.step()
