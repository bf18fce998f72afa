import math

import torch
from torch import nn


class MemoryAttention(nn.Module):
    """Queries attend over a small table of learnable slots."""

    def __init__(self, d=16, slots=8):
        super().__init__()
        self.query = nn.Linear(4, d)
        self.keys = nn.Parameter(torch.randn(slots, d)).mul(0.5)
        self.values = nn.Parameter(torch.randn(slots, d)).div(math.sqrt(d))
        self.out = nn.Linear(d, 1)

    def forward(self, x):
        att = torch.softmax(self.query(x) @ self.keys.T / 4.0, dim=-1)
        return self.out(att @ self.values)


torch.manual_seed(0)
model = MemoryAttention()
optim = torch.optim.Adam(model.parameters(), lr=1e-2)
protos = torch.randn(5, 4) * 1.5
proto_y = torch.randn(5, 1)


def sample(n):
    c = torch.randint(0, 5, (n,))
    return protos[c] + 0.2 * torch.randn(n, 4), proto_y[c]


for it in range(1, 241):
    x, y = sample(32)
    loss = nn.functional.mse_loss(model(x), y)
    optim.zero_grad()
    loss.backward()
    optim.step()
    if it % 60 == 0:
        with torch.no_grad():
            xt, yt = sample(500)
            print(f"{it}: train {loss.item():.4f} test {nn.functional.mse_loss(model(xt), yt).item():.4f}")
