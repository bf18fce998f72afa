"""Two tasks with a loader each, a gradient of our own for a hard gate, activations computed anew."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset


class HardGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return slope * torch.sigmoid(4 * x) * torch.sigmoid(-4 * x) * 4


class Shared(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, d), nn.ReLU(), nn.Dropout(0.1), nn.Linear(d, d))
        self.gates = nn.ParameterDict({task: nn.Parameter(0.1 * torch.randn(d)) for task in ("sort", "size")})
        self.heads = nn.ModuleDict({"sort": nn.Linear(d, 3), "size": nn.Linear(d, 1)})
        self.log_weights = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in ("sort", "size")})

    def forward(self, x, task):
        h = checkpoint(self.trunk, x, use_reentrant=False)
        return self.heads[task](h * HardGate.apply(self.gates[task]))

    def weigh(self, losses):
        return sum(loss * (-self.log_weights[t]).exp() + self.log_weights[t] for t, loss in losses.items())


class Session:
    def __init__(self, model, on_epoch=()):
        self.model, self.on_epoch = model, list(on_epoch)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
        self.scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=5)

    def _apply(self, losses):
        self.optimizer.zero_grad()
        self.scaler.scale(self.model.weigh(losses)).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def fit(self, sorts, sizes, epochs=5):
        for epoch in range(epochs):
            source = iter(sizes)
            seen = {"sort": 0.0, "size": 0.0}
            for x, y in sorts:
                try:
                    u, v = next(source)
                except StopIteration:
                    source = iter(sizes)
                    u, v = next(source)
                losses = {
                    "sort": F.cross_entropy(self.model(x, "sort"), y),
                    "size": F.mse_loss(self.model(u, "size").squeeze(1), v),
                }
                self._apply(losses)
                for task, loss in losses.items():
                    seen[task] += loss.item()
            self.schedule.step()
            for callback in self.on_epoch:
                callback(epoch, seen)


def main():
    torch.manual_seed(0)
    x, u = torch.randn(600, 10), torch.randn(200, 10)
    sorts = DataLoader(TensorDataset(x, x[:, :3].argmax(1)), 40, shuffle=True)
    sizes = DataLoader(TensorDataset(u, u.norm(dim=1)), 40, shuffle=True)
    history = []
    Session(Shared(), [lambda epoch, seen: history.append(dict(seen)), lambda epoch, seen: print(epoch, seen)]).fit(sorts, sizes)


if __name__ == "__main__":
    main()
