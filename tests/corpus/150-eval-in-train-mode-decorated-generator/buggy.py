"""A training function with callbacks; evaluation goes through a decorator that switches the mode."""
import functools

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


def evaluating(method):
    """Run with the network in evaluation mode and without gradients, then go back."""

    @functools.wraps(method)
    def wrapped(model, *args):
        was = model.training
        model.eval()
        try:
            with torch.no_grad():
                return method(model, *args)
        finally:
            model.train(was)

    return wrapped


@evaluating
def predictions(model, loader):
    for x, y in loader:
        yield model(x).argmax(dim=1), y


class ValidateEveryEpoch:
    def __init__(self, loader):
        self.loader, self.scores = loader, []

    def __call__(self, model, epoch):
        right = count = 0
        for guess, y in predictions(model, self.loader):
            right += (guess == y).sum().item()
            count += len(y)
        self.scores.append(right / count)
        print(f"epoch {epoch}: accuracy {self.scores[-1]:.3f}")


def train(model, loader, epochs, callbacks=()):
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    criterion = nn.CrossEntropyLoss()
    model.train()
    for epoch in range(epochs):
        for x, y in loader:
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for callback in callbacks:
            callback(model, epoch)


def main():
    torch.manual_seed(1)
    x = torch.randn(900, 20)
    y = (x[:, :5].sum(1) > 0).long() + (x[:, 5:9].sum(1) > 1).long()
    train_set, val_set = random_split(TensorDataset(x, y), [700, 200])
    model = nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.4), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.4), nn.Linear(64, 3)
    )
    train(
        model,
        DataLoader(train_set, 50, shuffle=True),
        epochs=5,
        callbacks=[ValidateEveryEpoch(DataLoader(val_set, 100))],
    )


if __name__ == "__main__":
    main()
