import random

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def spirals(n, seed):
    g = torch.Generator().manual_seed(seed)
    r = torch.rand(n, generator=g)
    cls = torch.randint(0, 2, (n,), generator=g)
    a = 5 * r + 3.1416 * cls
    x = torch.stack([r * a.cos(), r * a.sin()], 1) * 2 + 0.08 * torch.randn(n, 2, generator=g)
    return TensorDataset(x, cls)


class Experiment:
    def __init__(self, seed=0):
        random.seed(seed)
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))
        self.opt = torch.optim.RMSprop(self.net.parameters(), lr=5e-3)
        self.loss = nn.CrossEntropyLoss()
        self.train_dl = DataLoader(spirals(400, 1), batch_size=20, shuffle=True)
        self.val_dl = DataLoader(spirals(200, 2), batch_size=200)
        self.best_acc, self.best = 0.0, None

    def epoch(self):
        self.net.train()
        for x, y in self.train_dl:
            self.opt.zero_grad()
            l = self.loss(self.net(x), y)
            l.backward()
            self.opt.step()

    @torch.no_grad()
    def score(self):
        self.net.eval()
        return sum((self.net(x).argmax(1) == y).sum().item() for x, y in self.val_dl) / 200

    def run(self, n=12):
        for e in range(n):
            self.epoch()
            acc = self.score()
            if acc > self.best_acc:
                self.best_acc = acc
                self.best = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.net.load_state_dict(self.best)
        print(f"best {self.best_acc:.3f} restored {self.score():.3f}")


if __name__ == "__main__":
    Experiment().run()
