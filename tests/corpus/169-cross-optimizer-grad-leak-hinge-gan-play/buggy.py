"""Hinge GAN on 2-d points, a class with a method for each player."""
import math

import torch
import torch.nn.functional as F
from torch import nn


def mlp(i, o):
    return nn.Sequential(nn.Linear(i, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, o))


class GAN:
    def __init__(self, latent=8):
        self.latent = latent
        self.g, self.d = mlp(latent, 2), mlp(2, 1)
        self.opts = {
            "g": torch.optim.Adam(self.g.parameters(), 1e-3, betas=(0.0, 0.9)),
            "d": torch.optim.Adam(self.d.parameters(), 1e-3, betas=(0.0, 0.9)),
        }

    def sample(self, n):
        return self.g(torch.randn(n, self.latent))

    def d_loss(self, real):
        fake = self.sample(len(real)).detach()
        return F.relu(1 - self.d(real)).mean() + F.relu(1 + self.d(fake)).mean()

    def g_loss(self, real):
        return -self.d(self.sample(len(real))).mean()

    def play(self, who, real):
        loss = getattr(self, f"{who}_loss")(real)
        loss.backward()
        self.opts[who].step()
        self.opts[who].zero_grad()
        return loss.item()

    def fit(self, data, rounds):
        for i in range(rounds):
            real = next(data)
            told = {who: self.play(who, real) for who in ("d", "g")}
            if i % 20 == 0:
                print(i, told)


def ring(size):
    while True:
        angle = torch.randint(8, (size,)) * math.pi / 4
        yield torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(size, 2)


torch.manual_seed(0)
GAN().fit(ring(64), 60)
