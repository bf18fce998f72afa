"""Keeps the best epoch's weights, and restores them in the end."""
import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class EarlyStopping:
    def __init__(self, patience=3):
        self.patience, self.best, self.waited = patience, float("inf"), 0
        self.weights = None

    def __call__(self, value, model):
        if value < self.best:
            self.best, self.waited = value, 0
            self.weights = copy.deepcopy(model.state_dict())
        else:
            self.waited += 1
        return self.waited >= self.patience


def evaluate(model, loader, criterion):
    model.eval()
    total = 0.0
    with torch.inference_mode():
        for x, y in loader:
            total += criterion(model(x), y).item() * len(x)
    return total / len(loader.dataset)


def train_epoch(model, loader, criterion, optimizer):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()


def main():
    torch.manual_seed(3)
    x = torch.randn(300, 10)
    y = (x[:, 0] * x[:, 1] > 0).long()
    train_set, val_set = random_split(TensorDataset(x, y), [200, 100])
    train_loader = DataLoader(train_set, 16, shuffle=True)
    val_loader = DataLoader(val_set, 50)
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    stopper = EarlyStopping()
    for epoch in range(20):
        train_epoch(model, train_loader, criterion, optimizer)
        value = evaluate(model, val_loader, criterion)
        print(epoch, round(value, 4))
        if stopper(value, model):
            break
    model.load_state_dict(stopper.weights)
    print("restored", evaluate(model, val_loader, criterion), "best was", stopper.best)


main()
