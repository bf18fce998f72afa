import torch
import torch.nn as nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits


def accuracy(model, loader):
    model.eval()
    good = total = 0
    with torch.no_grad():
        for x, y in loader:
            good += (model(x).argmax(1) == y).sum().item()
            total += y.numel()
    return good / total


def main():
    torch.manual_seed(6)
    digits = load_digits()
    x, y = torch.tensor(digits.data / 8 - 1, dtype=torch.float32), torch.tensor(digits.target)
    perm = torch.randperm(len(x))
    train = DataLoader(TensorDataset(x[perm[:1300]], y[perm[:1300]]), batch_size=64, shuffle=True)
    valid = DataLoader(TensorDataset(x[perm[1300:]], y[perm[1300:]]), batch_size=128)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.8)
    scheduler = ReduceLROnPlateau(optimizer, mode="max", factor=0.3, patience=1)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(12):
        model.train()
        for xb, yb in train:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
        acc = accuracy(model, valid)
        scheduler.step(acc)
        print(f"epoch {epoch} acc {acc:.3f} lr {optimizer.param_groups[0]['lr']:.2e}")


main()
