import torch
import torch.nn as nn

torch.manual_seed(76)
net = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 2))
params = list(net.parameters())
opt = torch.optim.Adam(params, lr=5e-3)


def flat_grads(loss, keep):
    gs = torch.autograd.grad(loss, params, retain_graph=keep)
    return torch.cat([g.flatten() for g in gs])


for it in range(1, 151):
    x = torch.randn(64, 5)
    out = net(x)
    losses = [(out[:, 0] - x.sum(1)).square().mean(), (out[:, 1] + x[:, 0] * 2).square().mean()]
    g1, g2 = flat_grads(losses[0], True), flat_grads(losses[1], False)
    dot = g1 @ g2
    if dot < 0:
        g1, g2 = g1 - dot / g2.square().sum() * g2, g2 - dot / g1.square().sum() * g1
    g = g1 + g2
    for p, part in zip(params, g.split([p.numel() for p in params])):
        p.grad = part.view_as(p)
    opt.step()
    if it % 50 == 0:
        print(it, [round(l.item(), 4) for l in losses])
