"""Warmup and cosine decay through LambdaLR."""
import math

import torch
from torch import nn

PEAK, WARMUP, TOTAL = 2e-3, 20, 120


def schedule(step):
    if step < WARMUP:
        return PEAK * (step + 1) / WARMUP
    progress = (step - WARMUP) / (TOTAL - WARMUP)
    return PEAK * 0.5 * (1 + math.cos(math.pi * progress))


class ResBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def forward(self, x):
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))


def decay_groups(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def main():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), ResBlock(32), ResBlock(32), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(decay_groups(model, 0.1), lr=PEAK)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    for step in range(TOTAL):
        x = torch.rand(64, 8)
        y = (x * 6).sin().sum(1, keepdim=True)
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if step % 30 == 0:
            print(step, loss.item(), scheduler.get_last_lr()[0])


main()
