"""Deterministic policy gradient on a one-step continuous bandit:
reward = -(a - sin(3 s))^2.  Critic Q(s, a), actor mu(s)."""
import random
from collections import deque

import torch
import torch.nn as nn


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1))

    def forward(self, s, a):
        return self.net(torch.cat([s, a], dim=-1))


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 48), nn.ReLU(), nn.Linear(48, 1), nn.Tanh())

    def forward(self, s):
        return self.net(s)


random.seed(5)
torch.manual_seed(5)
actor, critic = Actor(), Critic()
actor_optim = torch.optim.Adam(actor.parameters(), lr=2e-3)
critic_optim = torch.optim.Adam(critic.parameters(), lr=4e-3)
memory = deque(maxlen=4000)

for episode in range(1, 401):
    # act with exploration noise
    s = torch.rand(16, 1) * 2 - 1
    with torch.no_grad():
        a = (actor(s) + 0.4 * torch.randn(16, 1)).clamp(-1, 1)
    r = -(a - torch.sin(3 * s)) ** 2
    memory.extend(zip(s, a, r))
    if len(memory) < 64:
        continue
    bs, ba, br = (torch.stack(t) for t in zip(*random.sample(memory, 64)))

    # critic
    critic_optim.zero_grad()
    critic_loss = nn.functional.mse_loss(critic(bs, ba), br)
    critic_loss.backward()
    critic_optim.step()

    # actor
    actor_optim.zero_grad()
    actor_loss = -critic(bs, actor(bs)).mean()
    actor_loss.backward()
    actor_optim.step()

    if episode % 100 == 0:
        with torch.no_grad():
            probe = torch.linspace(-1, 1, 101).unsqueeze(1)
            err = (actor(probe) - torch.sin(3 * probe)).abs().mean().item()
        print(f"episode {episode}: critic {critic_loss.item():.4f} actor {actor_loss.item():.4f} policy error {err:.3f}")
