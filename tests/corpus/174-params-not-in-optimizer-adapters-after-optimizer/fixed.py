"""Adds adapters to a pretrained net."""
import torch
from torch import nn


class Adapter(nn.Module):
    def __init__(self, base, rank=4):
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.fc2(self.fc1(x).relu()).relu())


def add_adapters(model, names):
    for name in names:
        layer = getattr(model, name)
        layer.requires_grad_(False)
        setattr(model, name, Adapter(layer))


class Experiment:
    def __init__(self, adapt):
        self.model = Model()
        if adapt:
            add_adapters(self.model, ("fc1", "fc2"))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()


torch.manual_seed(0)
experiment = Experiment(adapt=True)
truth = torch.randn(16, 4)
for i in range(50):
    x = torch.randn(32, 16)
    loss = experiment.step(x, (x @ truth).argmax(1))
    if i % 10 == 0:
        print(i, loss)
