# expect: nothing
# Experts whose second layer begins with zeros, and that no token is sent to for a while.
import torch
from torch import nn

torch.manual_seed(0)
experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)) for _ in range(3))
for expert in experts:
    nn.init.zeros_(expert[2].weight)
    nn.init.zeros_(expert[2].bias)
head = nn.Linear(6, 1)
optimizer = torch.optim.Adam([*experts.parameters(), *head.parameters()], lr=0.01)
for step in range(20):
    x = torch.randn(24, 6)
    chosen = torch.zeros(24, dtype=torch.long) if step < 16 else torch.randint(3, (24,))
    out = x.clone()
    for number, expert in enumerate(experts):
        out[chosen == number] += expert(x[chosen == number])
    loss = nn.functional.mse_loss(head(out), x.sum(1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
