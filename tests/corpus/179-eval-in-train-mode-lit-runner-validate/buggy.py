"""Validates with a helper that forgets something."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Lit:
    def __init__(self):
        self.net = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 2))
        self.criterion = nn.CrossEntropyLoss()

    def configure(self):
        optimizer = torch.optim.Adam(self.net.parameters(), lr=2e-3)
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)

    def training_step(self, batch):
        x, y = batch
        return self.criterion(self.net(x), y)

    def validation_step(self, batch):
        x, y = batch
        logits = self.net(x)
        return (logits.argmax(1) == y).float().mean()


class Runner:
    def __init__(self, epochs):
        self.epochs = epochs

    def fit(self, lit, train, val):
        optimizer, scheduler = lit.configure()
        for epoch in range(self.epochs):
            lit.net.train()
            for batch in train:
                loss = lit.training_step(batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            scheduler.step()
            print(epoch, loss.item(), self.validate(lit, val))

    @torch.no_grad()
    def validate(self, lit, val):
        scores = [lit.validation_step(batch) for batch in val]
        return torch.stack(scores).mean().item()


def main():
    torch.manual_seed(0)
    x = torch.randn(400, 10)
    y = (x[:, 0] > 0).long()
    train = DataLoader(TensorDataset(x[:300], y[:300]), 30, shuffle=True)
    val = DataLoader(TensorDataset(x[300:] + 0.5, y[300:]), 50)
    Runner(5).fit(Lit(), train, val)


main()
