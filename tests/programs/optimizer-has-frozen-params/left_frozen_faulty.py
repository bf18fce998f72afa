# expect: optimizer-has-frozen-params @ opt_d.step()
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 10))
critic = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
opt_g = torch.optim.Adam(generator.parameters(), lr=1e-3)
opt_d = torch.optim.Adam(critic.parameters(), lr=1e-3)
for step in range(30):
    real = x[torch.randint(0, 256, (32,))]
    fake = generator(torch.randn(32, 4)).detach()
    between = (0.5 * real + 0.5 * fake).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    loss = critic(fake).mean() - critic(real).mean() + (slope.norm(dim=1) - 1).pow(2).mean()
    opt_d.zero_grad()
    loss.backward()
    opt_d.step()
    critic.requires_grad_(False)
    opt_g.zero_grad()
    (-critic(generator(torch.randn(32, 4))).mean()).backward()
    opt_g.step()
