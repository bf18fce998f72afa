# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
actor = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Dropout(0.1), nn.Linear(32, 2))
critic = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Dropout(0.1), nn.Linear(32, 1))
opt = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=1e-3)
for it in range(40):
    s = torch.randn(64, 4)
    dist = torch.distributions.Categorical(logits=actor(s))
    a = dist.sample()
    r = (a == (s[:, 0] > 0)).float()
    baseline = critic(s).squeeze(1).detach()
    if it % 10 == 0:
        print(baseline.mean().item())
    policy_loss = -(dist.log_prob(a) * (r - baseline)).mean()
    value_loss = (critic(s).squeeze(1) - r).pow(2).mean()
    opt.zero_grad()
    (policy_loss + value_loss).backward()
    opt.step()
