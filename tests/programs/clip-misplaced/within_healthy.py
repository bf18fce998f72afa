# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(40):
    x = torch.randn(16, 4)
    loss = nn.functional.mse_loss(model(x), 3 * x.sum(1, keepdim=True)) / 4
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), float("inf"))  # measures
    if step % 4 == 3:
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()

members = [nn.Linear(4, 1) for _ in range(3)]  # each clipped by itself, stepped together
optimizer = torch.optim.SGD([p for one in members for p in one.parameters()], lr=0.1)
for step in range(20):
    optimizer.zero_grad()
    for member in members:
        x = torch.randn(16, 4)
        loss = nn.functional.mse_loss(member(x), 3 * x.sum(1, keepdim=True))
        loss.backward()
        nn.utils.clip_grad_norm_(member.parameters(), 0.1)
    optimizer.step()

for step in range(20):  # the sum of gradients, each clipped by itself, as private training has it
    total = [torch.zeros_like(p) for p in model.parameters()]
    for _ in range(4):
        x = torch.randn(4)
        nn.functional.mse_loss(model(x), 3 * x.sum()[None]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        for held, p in zip(total, model.parameters(), strict=True):
            held += p.grad
            p.grad = None
    with torch.no_grad():
        for held, p in zip(total, model.parameters(), strict=True):
            p -= 0.01 * held
