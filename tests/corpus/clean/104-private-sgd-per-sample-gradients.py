"""Differentially private training: gradients of single samples by vmap, clipped, noised, written by hand."""
from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad_and_value, vmap


@dataclass
class Privacy:
    most: float = 1.0
    noise: float = 0.3


class PrivateTrainer:
    def __init__(self, model, privacy=Privacy(), lr=5e-2):
        self.model, self.privacy = model, privacy
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        self.slopes = vmap(grad_and_value(self.loss_of_one), in_dims=(None, 0, 0))

    def loss_of_one(self, weights, x, y):
        logits = functional_call(self.model, weights, (x[None],))
        return F.cross_entropy(logits, y[None])

    def step(self, x, y):
        weights = {name: p.detach() for name, p in self.model.named_parameters()}
        slopes, losses = self.slopes(weights, x, y)
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in slopes.values()]).norm(dim=0)
        factor = (self.privacy.most / (norms + 1e-6)).clamp(max=1.0)
        for name, p in self.model.named_parameters():
            total = torch.einsum("b,b...->...", factor, slopes[name])
            noise = self.privacy.noise * self.privacy.most * torch.randn_like(p)
            p.grad = (total + noise) / len(x)
        self.optimizer.step()
        return losses.mean().item()


def main():
    torch.manual_seed(0)
    x = torch.randn(600, 10)
    y = (x[:, :3].sum(1) > 0).long()
    model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 2))
    trainer = PrivateTrainer(model)
    for epoch in range(4):
        losses = [trainer.step(x[i], y[i]) for i in torch.randperm(600).split(60)]
        print(epoch, sum(losses) / len(losses))


if __name__ == "__main__":
    main()
