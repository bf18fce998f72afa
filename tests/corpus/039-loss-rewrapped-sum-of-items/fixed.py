"""Small anchor-free detector head on synthetic 'one box per image' data."""
import argparse

import torch
from torch import nn
import torch.nn.functional as F


def make_scene(n, size=16):
    img = 0.1 * torch.randn(n, 1, size, size)
    cls = torch.randint(0, 2, (n,))
    xy = torch.randint(1, size - 6, (n, 2))
    for k in range(n):
        x, y = xy[k].tolist()
        s = 5 if cls[k] else 3
        img[k, 0, y:y + s, x:x + s] += 1.0
    side = torch.where(cls > 0, 5, 3)
    centre = (xy + side[:, None] / 2) / size
    return img, cls, centre, (side / size).unsqueeze(1)


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(),
                                  nn.Linear(256, 32), nn.ReLU())
        self.cls, self.ctr, self.size = nn.Linear(32, 2), nn.Linear(32, 2), nn.Linear(32, 1)

    def forward(self, x):
        f = self.stem(x)
        return {"cls": self.cls(f), "ctr": self.ctr(f), "size": self.size(f)}


def compute_losses(out, cls, ctr, size):
    losses = {
        "cls": F.cross_entropy(out["cls"], cls),
        "ctr": F.smooth_l1_loss(out["ctr"], ctr) * 10,
        "size": F.l1_loss(out["size"], size) * 5,
    }
    total = torch.stack(list(losses.values())).sum()
    return total, {k: v.item() for k, v in losses.items()}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=120)
    ap.add_argument("--lr", type=float, default=2e-3)
    args = ap.parse_args()
    torch.manual_seed(5)
    det = Detector()
    opt = torch.optim.Adam(det.parameters(), lr=args.lr)
    for step in range(args.steps):
        img, *targets = make_scene(32)
        total, log = compute_losses(det(img), *targets)
        opt.zero_grad()
        total.backward()
        opt.step()
        if (step + 1) % 30 == 0:
            print(step + 1, " ".join(f"{k}:{v:.3f}" for k, v in log.items()))


if __name__ == "__main__":
    main()
