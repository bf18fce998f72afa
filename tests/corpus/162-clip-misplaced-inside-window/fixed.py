"""Trainer with gradient accumulation and clipping."""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Args:
    accumulate: int = 4
    max_norm: float = 0.05
    lr: float = 1e-3
    epochs: int = 3


class Classifier(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.LayerNorm(width))
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        return self.head(self.body(x))


class Trainer:
    def __init__(self, model, loader, args):
        self.model, self.loader, self.args = model, loader, args
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
        self.seen = 0

    def backward(self, batch):
        x, y = batch
        loss = F.cross_entropy(self.model(x), y) / self.args.accumulate
        loss.backward()
        return loss.item() * self.args.accumulate

    def update(self):
        nn.utils.clip_grad_norm_(self.model.parameters(), self.args.max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def fit(self):
        for epoch in range(self.args.epochs):
            running = 0.0
            for i, batch in enumerate(self.loader):
                running += self.backward(batch)
                if (i + 1) % self.args.accumulate == 0:
                    self.update()
            print(epoch, running / len(self.loader))


if __name__ == "__main__":
    torch.manual_seed(1)
    x = torch.randn(512, 20)
    y = (x[:, :5]).argmax(1)
    data = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
    Trainer(Classifier(), data, Args()).fit()
