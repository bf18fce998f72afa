import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class AccumulatingTrainer:
    def __init__(self, net, lr, accum):
        self.net = net
        self.accum = accum
        self.opt = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)

    def _flush(self):
        self.opt.step()
        self.opt.zero_grad()

    def epoch(self, batches):
        self.net.train()
        pending = 0
        total = 0.0
        for xb, yb in batches:
            loss = F.cross_entropy(self.net(xb), yb)
            (loss / self.accum).backward()
            pending += 1
            if pending == self.accum:
                self._flush()
                pending = 0
            total += loss.item()
        return total / len(batches)

    @torch.no_grad()
    def accuracy(self, x, y):
        self.net.eval()
        return (self.net(x).argmax(1) == y).float().mean().item()


def shuffled_batches(x, y, size):
    order = torch.randperm(len(x))
    return [(x[i], y[i]) for i in order.split(size)]


torch.manual_seed(6)
d = load_digits()
x = torch.tensor(d.data, dtype=torch.float32) / 16 - 0.3
y = torch.tensor(d.target)
order = torch.randperm(len(x))
x, y = x[order], y[order]
trainer = AccumulatingTrainer(nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Dropout(0.1), nn.Linear(48, 10)), lr=0.2, accum=8)
for e in range(10):
    loss = trainer.epoch(shuffled_batches(x[:1500], y[:1500], 60))
    print(f"epoch {e}: loss {loss:.4f}, held-out accuracy {trainer.accuracy(x[1500:], y[1500:]):.4f}")
