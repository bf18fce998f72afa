import math
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.optim.lr_scheduler import CosineAnnealingLR


@dataclass
class Config:
    lr: float = 0.02
    epochs: int = 12
    batch: int = 32
    hidden: int = 32
    seed: int = 0


class SineTask:
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.x = torch.rand(n, 1, generator=g) * 2 * math.pi - math.pi
        self.y = torch.sin(2 * self.x) + 0.05 * torch.randn(n, 1, generator=g)

    def batches(self, size):
        for i in torch.randperm(len(self.x)).split(size):
            yield self.x[i], self.y[i]


class Trainer:
    def __init__(self, cfg):
        torch.manual_seed(cfg.seed)
        self.cfg = cfg
        self.data, self.val = SineTask(512, 1), SineTask(128, 2)
        self.model = nn.Sequential(nn.Linear(1, cfg.hidden), nn.Tanh(), nn.Linear(cfg.hidden, cfg.hidden), nn.Tanh(),
                                   nn.Linear(cfg.hidden, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=cfg.lr, momentum=0.9)
        self.scheduler = CosineAnnealingLR(self.optimizer, T_max=cfg.epochs)
        self.criterion = nn.MSELoss()

    def train_epoch(self):
        self.model.train()
        loss_sum = n = 0
        for x, y in self.data.batches(self.cfg.batch):
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            loss_sum, n = loss_sum + loss.item(), n + 1
        return loss_sum / n

    def run(self):
        for epoch in range(self.cfg.epochs):
            loss = self.train_epoch()
            self.model.eval()
            with torch.no_grad():
                val = self.criterion(self.model(self.val.x), self.val.y).item()
            lr = self.scheduler.get_last_lr()[0]
            self.scheduler.step()
            if epoch % 3 == 2:
                print(f"epoch {epoch:2d} lr {lr:.5f} train {loss:.4f} val {val:.4f}")


Trainer(Config()).run()
