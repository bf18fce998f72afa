# expect: nothing
"""An optimizer that computes in float32 and writes back: a weight that needs no conversion is written onto itself."""
import torch
from torch import nn


class InFloat32(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                full = p.to(torch.float32)
                full.add_(p.grad, alpha=-group["lr"])
                p.copy_(full.to(p.dtype))


torch.manual_seed(0)
x = torch.randn(64, 10)
y = (x[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = InFloat32(model.parameters(), lr=0.1)
for step in range(12):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
