"""A small diffusion trainer: gradient accumulation, an average of the weights, a linear warmup."""
from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class TrainConfig:
    steps: int = 60
    accumulate: int = 2
    batch_size: int = 64
    lr: float = 2e-3
    warmup: int = 15
    ema_decay: float = 0.98
    T: int = 50


class Denoiser(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, d), nn.SiLU(), nn.Linear(d, d))
        self.enter, self.middle, self.leave = nn.Linear(2, d), nn.Linear(d, d), nn.Linear(d, 2)
        self.register_buffer("frequencies", torch.exp(-math.log(1000.0) * torch.arange(8) / 8))

    def forward(self, x, t):
        angle = t[:, None].float() * self.frequencies
        h = F.silu(self.enter(x) + self.time(torch.cat([angle.sin(), angle.cos()], dim=1)))
        return self.leave(F.silu(self.middle(h)) + h)


class DiffusionTrainer:
    def __init__(self, model, cfg: TrainConfig):
        self.cfg, self.model = cfg, model
        self.ema = copy.deepcopy(model).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr)
        self.lr_at = lambda step: cfg.lr * min(1.0, (step + 1) / cfg.warmup)
        self.alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.2, cfg.T), dim=0)

    def warm_up(self, step):
        self.optimizer.defaults["lr"] = self.lr_at(step)

    def loss(self, x):
        t = torch.randint(0, self.cfg.T, (len(x),))
        noise = torch.randn_like(x)
        a = self.alpha_bar[t][:, None]
        return F.mse_loss(self.model(a.sqrt() * x + (1 - a).sqrt() * noise, t), noise)

    @torch.no_grad()
    def update_ema(self):
        for mean, now in zip(self.ema.parameters(), self.model.parameters()):
            mean.lerp_(now, 1 - self.cfg.ema_decay)

    def fit(self, draw):
        for step in range(self.cfg.steps):
            self.warm_up(step)
            total = 0.0
            for _ in range(self.cfg.accumulate):
                loss = self.loss(draw(self.cfg.batch_size)) / self.cfg.accumulate
                loss.backward()
                total += loss.item()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.update_ema()
            if step % 20 == 19:
                print(f"step {step + 1}: loss {total:.4f}")

    @torch.no_grad()
    def sample(self, count):
        x = torch.randn(count, 2)
        for t in reversed(range(self.cfg.T)):
            a = self.alpha_bar[t]
            before = self.alpha_bar[t - 1] if t else torch.tensor(1.0)
            noise = self.ema(x, torch.full((count,), t))
            clean = ((x - (1 - a).sqrt() * noise) / a.sqrt()).clamp(-3, 3)
            x = before.sqrt() * clean + (1 - before).sqrt() * noise
        return x


def two_moons(count):
    angle = math.pi * torch.rand(count)
    upper = (torch.rand(count) < 0.5).float()
    x = torch.stack([angle.cos() + (1 - upper), (2 * upper - 1) * angle.sin() + 0.5 * (1 - upper)], dim=1)
    return x + 0.05 * torch.randn(count, 2)


if __name__ == "__main__":
    torch.manual_seed(3)
    trainer = DiffusionTrainer(Denoiser(), TrainConfig())
    trainer.fit(two_moons)
    print(trainer.sample(64).mean(0))
