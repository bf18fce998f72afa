# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
body = nn.Sequential(nn.Linear(4, 32), nn.Tanh())
actor, critic = nn.Linear(32, 2), nn.Linear(32, 1)
opt = torch.optim.Adam([*body.parameters(), *actor.parameters(), *critic.parameters()], lr=1e-3)
for it in range(30):
    s = torch.randn(64, 4)
    h = body(s)
    dist = torch.distributions.Categorical(logits=actor(h))
    a = dist.sample()
    r = (a == (s[:, 0] > 0)).float()
    v = critic(h).squeeze(-1)
    advantage = (r - v).detach()
    loss = -(dist.log_prob(a) * advantage).mean() + 0.5 * (r - v).pow(2).mean() - 0.01 * dist.entropy().mean()
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(body.parameters(), 0.5)
    opt.step()
