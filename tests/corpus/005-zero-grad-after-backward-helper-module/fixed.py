"""python train.py --epochs 15"""
import argparse

import torch
import torch.nn.functional as F

from netlib import accuracy, mlp, wine_loaders


def optimise(loss, optimizer):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def run_epoch(model, loader, optimizer):
    model.train()
    seen = total = 0
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        optimise(loss, optimizer)
        total += loss.item() * len(y)
        seen += len(y)
    return total / seen


def parse():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--epochs", type=int, default=15)
    ap.add_argument("--lr", type=float, default=3e-3)
    ap.add_argument("--hidden", type=int, nargs="*", default=[32, 16])
    ap.add_argument("--seed", type=int, default=3)
    return ap.parse_args()


def main():
    args = parse()
    torch.manual_seed(args.seed)
    train, test = wine_loaders(16, args.seed)
    model = mlp([13, *args.hidden, 3])
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.0)
    for epoch in range(args.epochs):
        loss = run_epoch(model, train, optimizer)
        print(f"epoch {epoch:>2}: loss {loss:.4f} acc {accuracy(model, test):.3f}")


if __name__ == "__main__":
    main()
