"""Training and validation as generators that are woven together."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(dim, dim), nn.BatchNorm1d(dim), nn.ReLU(), nn.Dropout(0.3))

    def forward(self, x):
        return x + self.f(x)


def training(model, loader, optimizer, criterion):
    model.train()
    while True:
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        yield loss.item()


def validation(model, loader):
    while True:
        model.eval()
        with torch.no_grad():
            hits = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
        yield hits / len(loader.dataset)


def main(epochs=4):
    torch.manual_seed(0)
    x = torch.randn(480, 12)
    y = (x[:, 0] > x[:, 1]).long()
    data = TensorDataset(x[:360], y[:360]), TensorDataset(x[360:], y[360:])
    train_loader, val_loader = DataLoader(data[0], 24, shuffle=True), DataLoader(data[1], 60)
    model = nn.Sequential(nn.Linear(12, 32), Block(32), Block(32), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rounds = zip(training(model, train_loader, optimizer, nn.CrossEntropyLoss()), validation(model, val_loader))
    for epoch, (loss, accuracy) in zip(range(epochs), rounds):
        print(epoch, loss, accuracy)


main()
