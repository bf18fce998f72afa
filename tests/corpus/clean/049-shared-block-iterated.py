"""ALBERT / universal-transformer style: one block applied several times; and a deep-equilibrium-like iteration."""
import torch
from torch import nn


class Universal(nn.Module):
    def __init__(self, d=24, steps=4):
        super().__init__()
        self.inp = nn.Linear(2, d)
        self.block = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))
        self.steps = steps
        self.step_emb = nn.Embedding(steps, d)
        self.out = nn.Linear(d, 2)

    def forward(self, x):
        h = self.inp(x)
        for t in range(self.steps):
            h = h + self.block(h + self.step_emb.weight[t])
        return self.out(h)


torch.manual_seed(49)
net = Universal()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for it in range(1, 151):
    x = torch.rand(64, 2) * 2 - 1
    y = ((x[:, 0] * 4).sin() * 0.5 > x[:, 1]).long()
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 50 == 0:
        print(it, round(loss.item(), 4))
