# Joint-embedding prediction on toy sequences: predict the target encoder's latents of masked patches.
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


def mlp(*sizes):
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class Encoder(nn.Module):
    def __init__(self, patch, dim, n):
        super().__init__()
        self.embed = nn.Linear(patch, dim)
        self.position = nn.Parameter(torch.randn(n, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(dim, 2, 2 * dim, dropout=0.0, batch_first=True, norm_first=True)
        self.mixer = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x, keep=None):
        h = self.embed(x) + self.position
        if keep is not None:
            h = h[:, keep]
        return self.mixer(h)


class JEPA(nn.Module):
    def __init__(self, patch=8, dim=32, n=12):
        super().__init__()
        self.n = n
        self.context = Encoder(patch, dim, n)
        self.predictor = mlp(dim + dim, 64, dim)
        self.query = nn.Parameter(torch.randn(n, dim) * 0.02)
        self.target = copy.copy(self.context)

    def trainable(self):
        yield from self.context.parameters()
        yield from self.predictor.parameters()
        yield self.query

    def forward(self, x, hidden):
        keep = [i for i in range(self.n) if i not in hidden]
        z = self.context(x, keep).mean(1)
        with torch.no_grad():
            goal = F.layer_norm(self.target(x), (z.size(-1),))[:, hidden]
        asked = self.query[hidden].expand(len(x), -1, -1)
        guess = self.predictor(torch.cat([z[:, None].expand_as(asked), asked], -1))
        return F.smooth_l1_loss(guess, goal)

    @torch.no_grad()
    def update_target(self, m):
        for slow, fast in zip(self.target.parameters(), self.context.parameters()):
            slow.mul_(m).add_(fast, alpha=1 - m)


def waves(n):
    t = torch.arange(96) / 96
    f, phase = torch.rand(n, 1) * 6 + 1, torch.rand(n, 1) * 2 * math.pi
    return torch.sin(2 * math.pi * f * t + phase).view(n, 12, 8)


torch.manual_seed(0)
model = JEPA()
opt = torch.optim.AdamW(model.trainable(), lr=1e-3, weight_decay=0.05)
total = 90
for step in range(total):
    start = torch.randint(0, 9, ()).item()
    loss = model(waves(48), list(range(start, start + 4)))
    opt.zero_grad(set_to_none=True)
    loss.backward()
    opt.step()
    model.update_target(0.99 + 0.01 * step / total)
    if step % 30 == 0:
        print(step, round(loss.item(), 4))
