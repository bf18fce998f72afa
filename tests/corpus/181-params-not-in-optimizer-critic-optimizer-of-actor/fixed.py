"""Deterministic policy gradient with two optimizers in a dict."""
import torch
from torch import nn


def net(i, o, last=None):
    layers = [nn.Linear(i, 32), nn.ReLU(), nn.Linear(32, o)]
    return nn.Sequential(*layers, *([last] if last else []))


class DPG:
    def __init__(self):
        self.actor, self.critic = net(4, 2, nn.Tanh()), net(6, 1)
        self.optim = {
            "actor": torch.optim.Adam(self.actor.parameters(), lr=1e-3),
            "critic": torch.optim.Adam(self.critic.parameters(), lr=1e-3),
        }

    def critic_loss(self, s, a, r):
        return nn.functional.mse_loss(self.critic(torch.cat([s, a], 1)).squeeze(1), r)

    def actor_loss(self, s):
        return -self.critic(torch.cat([s, self.actor(s)], 1)).mean()

    def apply(self, name, loss):
        for optimizer in self.optim.values():
            optimizer.zero_grad()
        self.critic.zero_grad()
        loss.backward()
        self.optim[name].step()
        return loss.item()

    def update(self, s, a, r):
        first = self.apply("critic", self.critic_loss(s, a, r))
        second = self.apply("actor", self.actor_loss(s))
        return first, second


class World:
    def __init__(self):
        self.goal = torch.randn(4, 2)

    def reward(self, s, a):
        return -((a - (s @ self.goal).tanh()) ** 2).sum(1)


torch.manual_seed(0)
world, agent = World(), DPG()
for step in range(60):
    s = torch.randn(64, 4)
    with torch.no_grad():
        a = (agent.actor(s) + 0.3 * torch.randn(64, 2)).clamp(-1, 1)
    told = agent.update(s, a, world.reward(s, a))
    if step % 20 == 0:
        print(step, told)
