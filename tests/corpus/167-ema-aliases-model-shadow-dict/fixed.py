"""Exponential moving average of the weights, as a class of its own."""
import torch
from torch import nn


class EMA:
    def __init__(self, model, decay=0.95):
        self.decay = decay
        self.shadow = {name: p.data.clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model):
        for name, p in model.named_parameters():
            self.shadow[name].mul_(self.decay).add_(p.data, alpha=1 - self.decay)

    def apply_to(self, other):
        for name, p in other.named_parameters():
            p.data.copy_(self.shadow[name])
        return other


def net():
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 3))


def stream(count, size):
    weight = torch.randn(8, 3)
    for _ in range(count):
        x = torch.randn(size, 8)
        yield x, (x @ weight).argmax(1)


def fit(model, ema, steps=60):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    for i, (x, y) in enumerate(stream(steps, 32)):
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(model)
        if i % 20 == 0:
            print(i, loss.item())


torch.manual_seed(0)
model = net()
ema = EMA(model)
fit(model, ema)
averaged = ema.apply_to(net()).eval()
x, y = next(iter(stream(1, 200)))
with torch.no_grad():
    print("raw", (model(x).argmax(1) == y).float().mean(), "ema", (averaged(x).argmax(1) == y).float().mean())
