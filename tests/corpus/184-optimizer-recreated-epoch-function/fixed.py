"""Train function that is called once an epoch and makes what it needs."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def build_model():
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)
    )


def build_optimizer(model, name, lr):
    kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    return kinds[name](model.parameters(), lr=lr)


def train_one_epoch(model, loader, criterion, optimizer):
    model.train()
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    return sum((model(x).argmax(1) == y).sum().item() for x, y in loader) / len(loader.dataset)


def main():
    torch.manual_seed(0)
    config = {"optimizer": "adam", "lr": 1e-3, "epochs": 5}
    x = torch.randn(320, 64)
    y = x[:, :4].argmax(1)
    train = DataLoader(TensorDataset(x[:256], y[:256]), batch_size=32, shuffle=True)
    test = DataLoader(TensorDataset(x[256:], y[256:]), batch_size=64)
    model = build_model()
    criterion = nn.CrossEntropyLoss()
    optimizer = build_optimizer(model, config["optimizer"], config["lr"])
    for epoch in range(config["epochs"]):
        loss = train_one_epoch(model, train, criterion, optimizer)
        print(f"{epoch}: {loss:.3f} {accuracy(model, test):.3f}")


main()
