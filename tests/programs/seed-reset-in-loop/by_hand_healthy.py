# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()


def train(model, optimizer, order):
    for index in order.split(32):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[index]), y[index]).backward()
        optimizer.step()


for lr in (0.1, 0.03, 0.01, 0.003, 0.001):  # each model begins alike
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for epoch in range(2):
        train(model, optimizer, torch.randperm(256))

generator = torch.Generator().manual_seed(1)
for epoch in range(5):  # what is measured is the same each time, what is trained on is drawn elsewhere
    torch.manual_seed(8)
    with torch.no_grad():
        print(model(x + 0.1 * torch.randn_like(x)).mean().item())
    train(model, optimizer, torch.randperm(256, generator=generator))
