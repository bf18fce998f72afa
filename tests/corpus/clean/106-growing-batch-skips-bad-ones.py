"""A curriculum whose effective batch grows by accumulation; updates with a wild gradient are left out."""
import argparse

import torch
import torch.nn.functional as F
from torch import nn


class Regressor(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, d), nn.SiLU(), nn.Linear(d, d), nn.SiLU())
        self.mean, self.log_scale = nn.Linear(d, 1), nn.Linear(d, 1)

    def forward(self, x):
        h = self.body(x)
        return self.mean(h).squeeze(-1), self.log_scale(h).squeeze(-1).clamp(-4, 4)


def windows(batches, size):
    window = []
    for batch in batches:
        window.append(batch)
        if len(window) == size:
            yield window
            window = []
    if window:
        yield window


def main(args):
    torch.manual_seed(0)
    x = torch.randn(1000, 6)
    difficulty = x.pow(2).sum(1)
    y = x[:, 0] * x[:, 1] + 0.1 * difficulty * torch.randn(1000)
    y[::97] = 500.0
    easy_first = difficulty.argsort()
    model = Regressor()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=args.lr)
    skipped = 0
    for stage in range(1, args.stages + 1):
        index = easy_first[: len(x) * stage // args.stages]
        index = index[torch.randperm(len(index))]
        for window in windows(index.split(args.batch_size), 2 ** (stage - 1)):
            count = sum(len(part) for part in window)
            for part in window:
                mean, log_scale = model(x[part])
                loss = F.gaussian_nll_loss(mean, y[part], (2 * log_scale).exp(), reduction="sum") / count
                loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), args.most)
            if norm > args.wild:
                optimizer.zero_grad()
                skipped += 1
                continue
            optimizer.step()
            optimizer.zero_grad()
        print(f"stage {stage}: {skipped} windows left out so far")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--stages", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--most", type=float, default=1.0)
    parser.add_argument("--wild", type=float, default=1e4)
    main(parser.parse_args())
