import torch
import torch.nn as nn
import torch.nn.functional as F


class MLP(nn.Sequential):
    def __init__(self, *dims):
        mods = []
        for i in range(len(dims) - 1):
            mods.append(nn.Linear(dims[i], dims[i + 1]))
            if i < len(dims) - 2:
                mods.append(nn.LeakyReLU(0.1))
        super().__init__(*mods)


def target(n):
    return torch.cat([torch.randn(n // 2, 1) * 0.2 - 1, torch.randn(n - n // 2, 1) * 0.2 + 1])


def train(steps=400, bs=128, z_dim=3, seed=0):
    torch.manual_seed(seed)
    G, D = MLP(z_dim, 32, 32, 1), MLP(1, 32, 32, 1)
    g_opt = torch.optim.Adam(G.parameters(), 1e-3, betas=(0.5, 0.9))
    d_opt = torch.optim.Adam(D.parameters(), 1e-3, betas=(0.5, 0.9))
    for s in range(1, steps + 1):
        g_opt.zero_grad()
        d_opt.zero_grad()
        fake = G(torch.randn(bs, z_dim))
        g_loss = F.softplus(-D(fake)).mean()
        g_loss.backward()
        g_opt.step()

        d_loss = F.softplus(-D(target(bs))).mean() + F.softplus(D(fake.detach())).mean()
        d_loss.backward()
        d_opt.step()

        if s % 100 == 0:
            with torch.no_grad():
                x = G(torch.randn(2000, z_dim))
            print(f"step {s} g {g_loss.item():.3f} d {d_loss.item():.3f} "
                  f"std {x.std().item():.3f} frac>0 {(x > 0).float().mean().item():.2f}")


train()
