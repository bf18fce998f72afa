# expect: ema-aliases-model @ copy.copy(q)
import copy

import torch
from torch import nn

torch.manual_seed(0)
q = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
target = copy.copy(q)
opt = torch.optim.Adam(q.parameters(), lr=1e-3)
for it in range(30):
    s, n, r = torch.randn(32, 4), torch.randn(32, 4), torch.randn(32)
    with torch.no_grad():
        goal = r + 0.9 * target(n).max(1).values
    loss = nn.functional.mse_loss(q(s).max(1).values, goal)
    opt.zero_grad()
    loss.backward()
    opt.step()
