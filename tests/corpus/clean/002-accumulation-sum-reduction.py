"""Micro-batches with reduction='sum', divided by the size of the full batch: nothing left to scale by the number of micro-batches."""
import torch
import torch.nn.functional as F
from torch import nn


class MicroBatchTrainer:
    def __init__(self, model, micro=16, lr=0.05):
        self.model, self.micro = model, micro
        self.opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)

    def step(self, x, y):
        self.opt.zero_grad()
        total = 0.0
        for xm, ym in zip(x.split(self.micro), y.split(self.micro)):
            loss = F.mse_loss(self.model(xm), ym, reduction="sum") / len(x)
            loss.backward()
            total += loss.item()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.opt.step()
        return total


torch.manual_seed(1)
trainer = MicroBatchTrainer(nn.Sequential(nn.Linear(3, 24), nn.Tanh(), nn.Linear(24, 1)))
for it in range(1, 101):
    x = torch.randn(64, 3)
    y = (x[:, :1] * x[:, 1:2]).sin() + x[:, 2:] / 2
    loss = trainer.step(x, y)
    if it % 25 == 0:
        print(f"step {it} loss {loss:.4f}")
