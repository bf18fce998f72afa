import argparse
import torch
import torch.nn as nn
from sklearn.datasets import load_diabetes
from torch.utils.data import DataLoader, TensorDataset


def adjust_learning_rate(optimizer, epoch, args):
    """lr decays by 10 every 10 epochs"""
    lr = args.lr * (0.1 ** (epoch // 10))
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()

    torch.manual_seed(0)
    X, y = load_diabetes(return_X_y=True)
    X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
    y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32).unsqueeze(1)
    loader = DataLoader(TensorDataset(X[:352], y[:352]), batch_size=args.batch_size, shuffle=True)
    model = nn.Sequential(nn.Linear(10, 24), nn.Tanh(), nn.Linear(24, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    criterion = nn.MSELoss()

    for epoch in range(args.epochs):
        lr = adjust_learning_rate(optimizer, epoch, args)
        total = 0.0
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(xb)
        with torch.no_grad():
            val = criterion(model(X[352:]), y[352:]).item()
        if epoch % 6 == 5:
            print(f"epoch {epoch}: lr {lr:.4f} train {total / 352:.4f} val {val:.4f}")


if __name__ == "__main__":
    main()
