"""Masked-patch autoencoder with warmup, accumulation over micro-batches and a cosine that ends at the last update."""
import argparse
import math

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.utils.data import DataLoader, Dataset


class Patches(Dataset):
    def __init__(self, n=960):
        g = torch.Generator().manual_seed(2)
        a, b = torch.randn(n, 8, 1, generator=g), torch.randn(n, 1, 8, generator=g)
        self.images = (a @ b) / 2.0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i].reshape(4, 16)


class MAE(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.embed, self.mask = nn.Linear(16, d), nn.Parameter(torch.zeros(d))
        self.place = nn.Parameter(torch.randn(4, d) * 0.1)
        self.body = nn.TransformerEncoderLayer(d, 4, 96, dropout=0.0, batch_first=True)
        self.out = nn.Linear(d, 16)

    def forward(self, patches):
        hidden = torch.rand(patches.shape[:2]) < 0.4
        h = torch.where(hidden[..., None], self.mask, self.embed(patches)) + self.place
        error = (self.out(self.body(h)) - patches).square().mean(-1)
        return (error * hidden).sum() / hidden.sum().clamp(min=1)


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--micro", type=int, default=16)
    p.add_argument("--accumulate", type=int, default=4)
    p.add_argument("--lr", type=float, default=2e-3)
    return p.parse_args()


def main(args):
    torch.manual_seed(0)
    data = DataLoader(Patches(), args.micro, shuffle=True, drop_last=True)
    updates = args.epochs * math.ceil(len(data) / args.accumulate)
    model = MAE()
    opt = torch.optim.AdamW(model.parameters(), lr=args.lr)
    warm = max(1, updates // 10)
    sched = SequentialLR(
        opt,
        [LinearLR(opt, 0.1, total_iters=warm), CosineAnnealingLR(opt, updates - warm, eta_min=1e-6)],
        milestones=[warm],
    )
    seen = 0
    for epoch in range(args.epochs):
        running = 0.0
        for i, patches in enumerate(data, 1):
            loss = model(patches) / args.accumulate
            loss.backward()
            running += loss.item()
            if i % args.accumulate == 0 or i == len(data):
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                opt.step()
                opt.zero_grad()
                seen += 1
            sched.step()
        print(f"epoch {epoch} updates {seen} loss {running / len(data) * args.accumulate:.4f} lr {sched.get_last_lr()[0]:.2e}")


if __name__ == "__main__":
    main(parse())
