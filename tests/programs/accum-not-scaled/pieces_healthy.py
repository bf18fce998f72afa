# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
domains = [torch.randn(256, 4) + shift for shift in (-1, 0, 1)]
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
for start in range(0, 256, 16):  # the sum over domains, on purpose
    optimizer.zero_grad()
    for domain in domains:
        x = domain[start : start + 16]
        loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        loss.backward()
    optimizer.step()
for start in range(0, 256, 16):  # pieces of one batch, divided
    optimizer.zero_grad()
    for x in domains[0][start : start + 16].split(4):
        loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)) / 4
        loss.backward()
    optimizer.step()
for start in range(0, 256, 16):  # a step for each piece
    for x in domains[0][start : start + 16].split(4):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        loss.backward()
        optimizer.step()
