"""A U-shaped denoiser in mixed precision; the gradient norm is limited by a function of our own."""
import argparse

import torch
import torch.nn.functional as F
from torch import nn


class TinyUNet(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.down = nn.Conv2d(1, width, 3, padding=1)
        self.middle = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.out = nn.Conv2d(2 * width, 1, 3, padding=1)

    def forward(self, x):
        skip = F.relu(self.down(x))
        h = F.relu(self.up(F.relu(self.middle(skip))))
        return self.out(torch.cat([skip, h], dim=1))


def limit_norm(parameters, most):
    grads = [p.grad for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in grads]))
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    for g in grads:
        g.mul_(factor)
    return norm


def make_update(model, optimizer, scaler, most):
    def update(loss):
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = limit_norm(model.parameters(), most)
        scaler.step(optimizer)
        scaler.update()
        return norm.item()

    return update


def main(args):
    torch.manual_seed(args.seed)
    model = TinyUNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    update = make_update(model, optimizer, scaler, args.max_norm)
    for step in range(args.steps):
        clean = F.interpolate(torch.rand(args.batch_size, 1, 4, 4), size=16, mode="bilinear")
        noisy = clean + 0.2 * torch.randn_like(clean)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.l1_loss(model(noisy), clean)
        norm = update(loss)
        if step % 10 == 9:
            print(f"{step + 1}: loss {loss.item():.4f}, gradient norm {norm:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--max-norm", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    main(parser.parse_args())
