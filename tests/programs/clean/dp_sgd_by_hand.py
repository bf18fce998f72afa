# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Linear(8, 1)
opt = torch.optim.SGD(net.parameters(), lr=1e-2)
for it in range(10):
    x = torch.randn(8, 8)
    summed = [torch.zeros_like(p) for p in net.parameters()]
    for row in x:
        opt.zero_grad()
        nn.functional.mse_loss(net(row), row[:1]).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for s, p in zip(summed, net.parameters()):
            s += p.grad
    for s, p in zip(summed, net.parameters()):
        p.grad.copy_((s + 0.1 * torch.randn_like(s)) / 8)
    opt.step()
