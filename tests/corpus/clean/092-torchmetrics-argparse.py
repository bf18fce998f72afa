import argparse
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics import MeanMetric
from sklearn.datasets import load_digits


def get_args():
    p = argparse.ArgumentParser()
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--batch-size", type=int, default=64)
    p.add_argument("--seed", type=int, default=92)
    return p.parse_args()


def main():
    args = get_args()
    torch.manual_seed(args.seed)
    d = load_digits()
    ds = TensorDataset(torch.tensor(d.images, dtype=torch.float32)[:, None] / 8 - 1, torch.tensor(d.target))
    train, val = random_split(ds, [1400, len(ds) - 1400])
    train, val = DataLoader(train, args.batch_size, shuffle=True), DataLoader(val, 128)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    opt = torch.optim.AdamW(net.parameters(), lr=args.lr)
    acc, mean = MulticlassAccuracy(10, average="micro"), MeanMetric()
    for epoch in range(args.epochs):
        net.train()
        mean.reset()
        for x, y in train:
            loss = nn.functional.cross_entropy(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            mean.update(loss.detach())
        net.eval()
        acc.reset()
        with torch.inference_mode():
            for x, y in val:
                acc.update(net(x), y)
        print(f"{epoch} loss {mean.compute():.4f} acc {acc.compute():.4f}")


if __name__ == "__main__":
    main()
