# expect: nothing
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
    critic.requires_grad_(True)
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

body, head = nn.Linear(10, 16), nn.Linear(16, 2)
optimizers = [torch.optim.SGD(body.parameters(), lr=0.1), torch.optim.SGD(head.parameters(), lr=0.1)]
for step in range(40):
    body.requires_grad_(step < 10)  # the second phase trains the head, and steps both
    index = torch.randint(0, 256, (32,))
    loss = nn.functional.cross_entropy(head(body(x[index]).relu()), y[index])
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
