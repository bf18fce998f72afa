import torch
from torch import nn, autograd

torch.manual_seed(4)


def real_batch(n):
    k = torch.randint(0, 2, (n, 1)).float() * 4 - 2
    return torch.cat([k, -k], 1) + 0.2 * torch.randn(n, 2)


G = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
C = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
opt_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.0, 0.9))
opt_c = torch.optim.Adam(C.parameters(), lr=1e-3, betas=(0.0, 0.9))


def gradient_penalty(real, fake):
    eps = torch.rand(len(real), 1)
    mix = (eps * real + (1 - eps) * fake).requires_grad_(True)
    grad = autograd.grad(C(mix).sum(), mix, create_graph=True)[0]
    return ((grad.norm(2, dim=1) - 1) ** 2).mean()


for it in range(80):
    for _ in range(3):
        real = real_batch(64)
        with torch.no_grad():
            fake = G(torch.randn(64, 4))
        loss_c = C(fake).mean() - C(real).mean() + 10 * gradient_penalty(real, fake)
        opt_c.zero_grad()
        loss_c.backward()
        opt_c.step()
    loss_g = -C(G(torch.randn(64, 4))).mean()
    opt_g.zero_grad()
    loss_g.backward()
    opt_g.step()
    if it % 20 == 19:
        print(f"it {it + 1} critic {loss_c.item():.3f} generator {loss_g.item():.3f}")
