from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits


@dataclass
class Args:
    lr: float = 0.05
    batch_size: int = 20
    gradient_accumulation_steps: int = 5
    epochs: int = 4
    seed: int = 132


class Trainer:
    def __init__(self, args):
        torch.manual_seed(args.seed)
        self.args = args
        d = load_digits()
        x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
        self.train_loader = DataLoader(TensorDataset(x[:1500], y[:1500]), args.batch_size, shuffle=True)
        self.test = x[1500:], y[1500:]
        self.model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=args.lr, momentum=0.9)

    def train(self):
        k = self.args.gradient_accumulation_steps
        for epoch in range(self.args.epochs):
            self.model.train()
            logged = 0.0
            for step, (x, y) in enumerate(self.train_loader):
                loss = F.cross_entropy(self.model(x), y)
                loss.backward()
                logged += loss.item() / k
                if (step + 1) % k == 0:
                    self.optimizer.step()
                    self.optimizer.zero_grad()
            self.model.eval()
            with torch.no_grad():
                acc = (self.model(self.test[0]).argmax(1) == self.test[1]).float().mean().item()
            print(f"epoch {epoch} loss {logged * k / len(self.train_loader):.4f} acc {acc:.3f}")


if __name__ == "__main__":
    Trainer(Args()).train()
