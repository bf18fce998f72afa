# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Linear(8, 2)
opt = torch.optim.Adam(net.parameters(), lr=1e-2)
for it in range(20):
    x = torch.randn(32, 8)
    out = net(x)
    losses = [(out[:, 0] - x[:, 0]).pow(2).mean(), (out[:, 1] + x[:, 0]).pow(2).mean()]
    grads = []
    for loss in losses:
        opt.zero_grad()
        loss.backward(retain_graph=True)
        grads.append([p.grad.clone() for p in net.parameters()])
    for p, a, b in zip(net.parameters(), *grads):
        p.grad = a + b
    opt.step()
