from dataclasses import dataclass

import torch
from sklearn.datasets import make_moons
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


@dataclass(frozen=True)
class Config:
    seed: int = 4
    n: int = 800
    noise: float = 0.15
    features: int = 64
    bandwidth: float = 1.5
    lr: float = 0.5
    momentum: float = 0.8
    batch: int = 40
    epochs: int = 10


class RandomFourier(nn.Module):
    """Fixed random features followed by a trainable linear layer."""

    def __init__(self, cfg):
        super().__init__()
        self.register_buffer("freq", cfg.bandwidth * torch.randn(2, cfg.features))
        self.register_buffer("phase", 6.2832 * torch.rand(cfg.features))
        self.linear = nn.Linear(cfg.features, 2)

    def forward(self, x):
        return self.linear(torch.cos(x @ self.freq + self.phase))


def build(cfg):
    X, y = make_moons(cfg.n, noise=cfg.noise, random_state=cfg.seed)
    X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
    y = torch.tensor(y)
    k = int(0.75 * cfg.n)
    tr = DataLoader(TensorDataset(X[:k], y[:k]), batch_size=cfg.batch, shuffle=True)
    return tr, (X[k:], y[k:]), RandomFourier(cfg)


def fit(cfg: Config):
    torch.manual_seed(cfg.seed)
    loader, (xv, yv), model = build(cfg)
    optimizer = optim.SGD(model.parameters(), lr=cfg.lr, momentum=cfg.momentum)
    criterion = nn.CrossEntropyLoss()
    for e in range(cfg.epochs):
        model.train()
        acc_loss = 0.0
        for xb, yb in loader:
            loss = criterion(model(xb), yb)
            optimizer.step()
            optimizer.zero_grad()
            loss.backward()
            acc_loss += loss.item()
        model.eval()
        with torch.inference_mode():
            va = (model(xv).argmax(1) == yv).float().mean()
        print(f"{e:3d} | {acc_loss / len(loader):.4f} | {va:.3f}")


if __name__ == "__main__":
    fit(Config())
