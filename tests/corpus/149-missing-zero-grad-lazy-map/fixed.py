"""Recommendations by two towers: sparse Adam for the tables, AdamW for the rest, behind one trainer."""
from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Config:
    users: int = 120
    items: int = 80
    d: int = 16
    epochs: int = 4
    batch_size: int = 64
    lr: float = 3e-3
    lr_tables: float = 1e-2


class TwoTower(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        self.users = nn.Embedding(cfg.users, cfg.d, sparse=True)
        self.items = nn.Embedding(cfg.items, cfg.d, sparse=True)
        self.user_mlp = nn.Sequential(nn.Linear(cfg.d, 32), nn.ReLU(), nn.Linear(32, cfg.d))
        self.item_mlp = nn.Sequential(nn.Linear(cfg.d, 32), nn.ReLU(), nn.Linear(32, cfg.d))

    def forward(self, user, item):
        u = F.normalize(self.user_mlp(self.users(user)), dim=-1)
        v = F.normalize(self.item_mlp(self.items(item)), dim=-1)
        return u @ v.T / 0.1


class Trainer:
    def __init__(self, cfg: Config, model: TwoTower):
        self.cfg, self.model = cfg, model
        tables = [model.users.weight, model.items.weight]
        dense = [p for p in model.parameters() if all(p is not t for t in tables)]
        self.optimizers = [
            torch.optim.SparseAdam(tables, lr=cfg.lr_tables),
            torch.optim.AdamW(dense, lr=cfg.lr),
        ]

    def reset_gradients(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def update(self, loss):
        self.reset_gradients()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()

    def fit(self, loader):
        for epoch in range(self.cfg.epochs):
            total = 0.0
            for user, item in loader:
                logits = self.model(user, item)
                loss = F.cross_entropy(logits, torch.arange(len(user)))
                self.update(loss)
                total += loss.item() * len(user)
            print(f"epoch {epoch}: {total / len(loader.dataset):.4f}")


def main():
    torch.manual_seed(0)
    cfg = Config()
    user = torch.randint(0, cfg.users, (1500,))
    item = (user * 7 + torch.randint(0, 5, (1500,))) % cfg.items
    loader = DataLoader(TensorDataset(user, item), cfg.batch_size, shuffle=True, drop_last=True)
    Trainer(cfg, TwoTower(cfg)).fit(loader)


if __name__ == "__main__":
    main()
