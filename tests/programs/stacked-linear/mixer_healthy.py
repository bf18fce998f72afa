# expect: nothing
"""One layer mixes channels, the other tokens: no single layer does both."""
import torch
from torch import nn


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.channels, self.tokens = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.tokens(self.channels(x).transpose(1, 2)).mean((1, 2))


torch.manual_seed(0)
model = Mixer()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(8):
    x = torch.randn(16, 8, 8)
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x), x.mean((1, 2))).backward()
    optimizer.step()
