"""LoRA by hand; the base stays frozen."""
import math

import torch
from torch import nn


class LoRALinear(nn.Module):
    def __init__(self, linear, rank=4, alpha=8.0):
        super().__init__()
        self.linear = linear
        for p in self.linear.parameters():
            p.requires_grad = False
        self.scale = alpha / rank
        self.A = nn.Parameter(torch.zeros(rank, linear.in_features))
        self.B = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return self.linear(x) + self.scale * (x @ self.A.T @ self.B.T)


def inject(model):
    for name, child in model.named_children():
        if isinstance(child, nn.Linear):
            setattr(model, name, LoRALinear(child))
        else:
            inject(child)
    return model


def pretrained():
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Sequential(nn.Linear(40, 40), nn.ReLU()))


def main():
    model = inject(pretrained())
    head = nn.Linear(40, 3)
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([{"params": params, "lr": 5e-3}, {"params": head.parameters(), "lr": 1e-3}])
    criterion = nn.CrossEntropyLoss()
    truth = torch.randn(20, 3)
    for step in range(60):
        x = torch.randn(64, 20)
        loss = criterion(head(model(x)), (x @ truth).argmax(1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            print(step, f"{loss.item():.3f}", "trained", sum(p.numel() for p in params))


main()
