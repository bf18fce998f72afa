import math
import torch
import torch.nn as nn
from sklearn.datasets import make_moons


class Coupling(nn.Module):
    def __init__(self, flip):
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, x):
        a, b = x.chunk(2, 1)
        if self.flip:
            a, b = b, a
        s, t = self.net(a).chunk(2, 1)
        s = torch.tanh(s) * 1.5
        b = b * s.exp() + t
        return torch.cat([b, a] if self.flip else [a, b], 1), s.squeeze(1)


torch.manual_seed(71)
data = torch.tensor(make_moons(1000, noise=0.05, random_state=0)[0], dtype=torch.float32) * 0.3
flow = nn.ModuleList([Coupling(i % 2 == 1) for i in range(6)])
opt = torch.optim.Adam(flow.parameters(), lr=3e-3)
for it in range(1, 151):
    x = data[torch.randint(0, 1000, (128,))]
    logdet = torch.zeros(len(x))
    for layer in flow:
        x, ld = layer(x)
        logdet = logdet + ld
    loss = -(-0.5 * x.square().sum(1) - math.log(2 * math.pi) + logdet).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 50 == 0:
        print(it, "nll", round(loss.item(), 4))
