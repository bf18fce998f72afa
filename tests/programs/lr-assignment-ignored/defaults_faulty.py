# expect: lr-assignment-ignored @ optimizer.defaults["lr"]
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)


def warm_up(step):
    optimizer.defaults["lr"] = min(0.01, 0.001 * (step + 1))


for step in range(40):
    warm_up(step)
    index = torch.randint(0, 256, (32,))
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x[index]), y[index]).backward()
    optimizer.step()
