# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.randn(64, 4)
for step in range(12):
    with torch.random.fork_rng():  # the same probe each time, and nothing else of it
        torch.manual_seed(7)
        probe = torch.randn_like(x)
    noisy = x + 0.1 * torch.randn_like(x) + 0.01 * probe
    loss = nn.functional.mse_loss(model(noisy), x.sum(1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
for seed in range(12):  # a direction that is drawn again from its seed, another one for each step
    torch.manual_seed(100 + seed)
    direction = torch.randn(1, 4)
    with torch.no_grad():
        model.weight += 0.01 * direction
    torch.manual_seed(100 + seed)
    with torch.no_grad():
        model.weight -= 0.01 * torch.randn(1, 4)
    loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
for lr in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):  # one step each, all from the same start
    torch.manual_seed(7)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    loss.backward()
    optimizer.step()
