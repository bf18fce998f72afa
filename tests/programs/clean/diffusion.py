# expect: nothing
import copy

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Dropout(0.1), nn.Linear(64, 2))
ema = copy.deepcopy(net).eval().requires_grad_(False)
opt = torch.optim.AdamW(net.parameters(), lr=1e-3)
alpha = torch.linspace(0.99, 0.9, 50).cumprod(0)
for it in range(60):
    x = torch.randn(64, 2) * 0.2 + 1
    t = torch.randint(0, 50, (64,))
    noise = torch.randn_like(x)
    a = alpha[t][:, None]
    noisy = a.sqrt() * x + (1 - a).sqrt() * noise
    loss = (net(torch.cat([noisy, t[:, None] / 50], 1)) - noise).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        for p, q in zip(ema.parameters(), net.parameters()):
            p.lerp_(q, 0.05)
with torch.no_grad():
    z = torch.randn(16, 2)
    for t in reversed(range(50)):
        z = z - 0.01 * ema(torch.cat([z, torch.full((16, 1), t / 50)], 1))
print(z.mean().item())
