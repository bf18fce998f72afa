"""An optimizer of our own (Lion), layer-wise rates, and layers that are unfrozen one after the other."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                fast, slow = group["betas"]
                p.mul_(1 - group["lr"] * group["weight_decay"])
                direction = torch.lerp(p.grad, state["momentum"], fast).sign_()
                p.add_(direction, alpha=-group["lr"])
                state["momentum"].lerp_(p.grad, 1 - slow)
        return loss


class Classifier(nn.Module):
    def __init__(self, depth=3, d=32):
        super().__init__()
        self.stem = nn.Linear(12, d)
        self.layers = nn.ModuleList(nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d), nn.GELU()) for _ in range(depth))
        self.head = nn.Linear(d, 3)

    def forward(self, x):
        h = self.stem(x)
        for layer in self.layers:
            h = h + layer(h)
        return self.head(h)


def unfreeze_next(model, optimizer, epoch, lr, decay):
    depth = len(model.layers) - epoch
    if 0 <= depth < len(model.layers):
        layer = model.layers[depth].requires_grad_(True)
        optimizer.add_param_group({"params": layer.parameters(), "lr": lr * decay**epoch})


def main(epochs=5, lr=1e-3, decay=0.6):
    torch.manual_seed(0)
    x = torch.randn(640, 12)
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 0.5).long()
    loader = DataLoader(TensorDataset(x, y), 64, shuffle=True)
    model = Classifier().requires_grad_(False)
    model.head.requires_grad_(True)
    optimizer = Lion(model.head.parameters(), lr=lr, weight_decay=0.05)
    for epoch in range(epochs):
        unfreeze_next(model, optimizer, epoch, lr, decay)
        total = 0.0
        for xb, yb in loader:

            def closure():
                optimizer.zero_grad()
                loss = F.cross_entropy(model(xb), yb)
                loss.backward()
                return loss

            total += optimizer.step(closure).item()
        print(epoch, len(optimizer.param_groups), total / len(loader))


if __name__ == "__main__":
    main()
