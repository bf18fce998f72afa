"""Fits a small regression net on tensors, in micro-batches because the memory is short."""
import torch
from torch import nn

torch.manual_seed(0)
X = torch.randn(512, 12)
Y = X @ torch.randn(12, 1) + 0.1 * torch.randn(512, 1)


def make_net():
    return nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.Linear(32, 1))


class Config:
    batch = 64
    micro = 16
    lr = 3e-3
    epochs = 4


def chunks(perm, size):
    for start in range(0, len(perm), size):
        yield perm[start : start + size]


def build_step(net, optimizer, cfg):
    criterion = nn.MSELoss()
    parts = cfg.batch // cfg.micro

    def step(indices):
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in indices.split(cfg.micro):
            prediction = net(X[part])
            loss = criterion(prediction, Y[part])
            (loss / parts).backward()
            total += loss.item() / parts
        optimizer.step()
        return total

    return step


def main():
    cfg = Config()
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=cfg.lr, momentum=0.9)
    step = build_step(net, optimizer, cfg)
    for epoch in range(cfg.epochs):
        losses = [step(idx) for idx in chunks(torch.randperm(len(X)), cfg.batch)]
        print(f"epoch {epoch} loss {sum(losses) / len(losses):.4f}")


if __name__ == "__main__":
    main()
