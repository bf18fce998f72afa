# expect: nothing
# An agent acts for thousands of steps before it learns for a few.
import torch
from torch import nn

torch.manual_seed(0)
policy = nn.Linear(4, 2)
optimizer = torch.optim.SGD(policy.parameters(), lr=0.01)
seen = []
for moment in range(3000):
    state = torch.randn(1, 4)
    seen.append((state, policy(state).detach()))
for step in range(12):
    states = torch.cat([state for state, _ in seen[step * 32 : step * 32 + 32]])
    loss = policy(states).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
