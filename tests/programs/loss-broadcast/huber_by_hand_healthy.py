# expect: nothing
# Each quantile with each target, a kernel with as many centres as samples, and equal shapes.
import torch
from torch import nn


def huber(error):
    small = error.abs().clamp(max=1.0)
    return 0.5 * small**2 + error.abs() - small


torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
centres = torch.linspace(-2, 2, 16)
for step in range(20):
    x = torch.randn(16, 4)
    pairs = huber(model(x).unsqueeze(2) - x.sum(1, keepdim=True).unsqueeze(1)).mean()
    kernel = torch.exp(-((model(x) - centres) ** 2)).mean()
    loss = huber(model(x).squeeze(1) - x.sum(1)).mean() + 0.1 * pairs + 0.01 * kernel
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
