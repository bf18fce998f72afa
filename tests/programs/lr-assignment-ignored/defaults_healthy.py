# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model[0].parameters(), lr=0.01)
optimizer.defaults["lr"] = 0.02  # for the head
optimizer.add_param_group({"params": model[2].parameters()})


def warm_up(step):
    for group in optimizer.param_groups:
        group["lr"] = min(0.01, 0.001 * (step + 1))


for step in range(40):
    warm_up(step)
    index = torch.randint(0, 256, (32,))
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x[index]), y[index]).backward()
    optimizer.step()
