import torch
import torch.nn as nn

torch.manual_seed(70)
u = nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1))
k = nn.Parameter(torch.tensor(1.0))             # inverse problem: u'' + k u = 0, k = 4
opt = torch.optim.Adam([*u.parameters(), k], lr=5e-3)
xd = torch.rand(30, 1) * 3
yd = torch.sin(2 * xd)
for it in range(1, 201):
    x = (torch.rand(64, 1) * 3).requires_grad_()
    y = u(x)
    du = torch.autograd.grad(y.sum(), x, create_graph=True)[0]
    ddu = torch.autograd.grad(du.sum(), x, create_graph=True)[0]
    loss = (ddu + k * y).square().mean() * 0.1 + 10 * (u(xd) - yd).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 50 == 0:
        print(it, round(loss.item(), 4), "k", round(k.item(), 3))
