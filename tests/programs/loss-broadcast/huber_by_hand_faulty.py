# expect: loss-broadcast @ return (0.5 * small
# says: (16, 16)
import torch
from torch import nn


def huber(prediction, target):
    error = prediction - target
    small = error.abs().clamp(max=1.0)
    return (0.5 * small**2 + error.abs() - small).mean()


torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(20):
    x = torch.randn(16, 4)
    loss = huber(model(x), x.sum(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
