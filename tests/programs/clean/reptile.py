# expect: nothing
import copy

import torch
from torch import nn

torch.manual_seed(0)
meta = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
for it in range(10):
    fast = copy.deepcopy(meta)
    opt = torch.optim.Adam(fast.parameters(), lr=1e-2)
    a = torch.rand(1)
    for _ in range(5):
        x = torch.rand(16, 1)
        opt.zero_grad()
        nn.functional.mse_loss(fast(x), a * x).backward()
        opt.step()
    with torch.no_grad():
        for p, q in zip(meta.parameters(), fast.parameters()):
            p.lerp_(q, 0.1)
