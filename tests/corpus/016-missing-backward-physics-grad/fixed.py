"""Physics-informed network for u'' + u = 0, u(0) = 0, u'(0) = 1 (solution: sin)."""
import torch
from torch import nn
from torch.autograd import grad

torch.manual_seed(1)


class PINN(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, t):
        return self.body(t)


def derivative(u, t):
    return grad(u, t, torch.ones_like(u), create_graph=True)[0]


net = PINN()
optim = torch.optim.Adam(net.parameters(), lr=5e-3)
t0 = torch.zeros(1, 1, requires_grad=True)

for it in range(301):
    t = (torch.rand(48, 1) * 3.0).requires_grad_(True)
    u = net(t)
    du = derivative(u, t)
    ddu = derivative(du, t)
    residual = (ddu + u).pow(2).mean()

    u0 = net(t0)
    du0 = derivative(u0, t0)
    boundary = u0.pow(2).sum() + (du0 - 1).pow(2).sum()

    loss = residual + 5 * boundary
    optim.zero_grad()
    loss.backward()
    optim.step()
    if it % 100 == 0:
        with torch.no_grad():
            ts = torch.linspace(0, 3, 50).unsqueeze(1)
            err = (net(ts) - ts.sin()).abs().max().item()
        print(f"it {it:4d} residual {residual.item():.2e} boundary {boundary.item():.2e} max err {err:.3f}")
