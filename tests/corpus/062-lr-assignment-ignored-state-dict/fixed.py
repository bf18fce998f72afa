import torch
import torch.nn.functional as F
from torch import nn


class WarmupTrainer:
    def __init__(self, model, base_lr=3e-3, warmup=40):
        self.model = model
        self.base_lr, self.warmup, self.n = base_lr, warmup, 0
        self.opt = torch.optim.Adam(model.parameters(), lr=base_lr)

    def set_lr(self):
        self.n += 1
        lr = self.base_lr * min(1.0, self.n / self.warmup)
        for group in self.opt.param_groups:
            group["lr"] = lr
        return lr

    def train_step(self, x, y):
        self.model.train()
        lr = self.set_lr()
        loss = F.cross_entropy(self.model(x), y)
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        return loss.item(), lr


def parity_batch(n=64, bits=6):
    x = torch.randint(0, 2, (n, bits))
    return x.float() * 2 - 1, x[:, :3].sum(1) % 2


torch.manual_seed(12)
trainer = WarmupTrainer(nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 2)))
for i in range(1, 241):
    loss, lr = trainer.train_step(*parity_batch())
    if i % 60 == 0:
        print(f"step {i:3d} lr {lr:.5f} loss {loss:.4f}")
