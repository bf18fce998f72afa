"""PPO with clipped updates over a rollout buffer, for a point that has to reach the middle."""
from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.distributions import Normal


class PointEnv:
    """Sixteen points at once; every episode starts somewhere else."""

    def __init__(self, count=16, horizon=20, seed=0):
        self.count, self.horizon, self.seed = count, horizon, seed

    def reset(self):
        self.t = 0
        self.where = torch.rand(self.count, 2) * 2 - 1
        return self.where.clone()

    def step(self, action):
        self.t += 1
        self.where = (self.where + 0.2 * action.clamp(-1, 1)).clamp(-1.5, 1.5)
        return self.where.clone(), -self.where.pow(2).sum(1), self.t >= self.horizon


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
        self.critic = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))
        self.log_std = nn.Parameter(torch.full((2,), -0.5))

    def policy(self, state):
        return Normal(self.actor(state), self.log_std.exp())

    def value(self, state):
        return self.critic(state).squeeze(-1)


@dataclass
class Buffer:
    states: list = field(default_factory=list)
    actions: list = field(default_factory=list)
    log_probs: list = field(default_factory=list)
    rewards: list = field(default_factory=list)
    values: list = field(default_factory=list)

    def finish(self, last_value, gamma=0.95, lam=0.9):
        advantage, advantages = torch.zeros_like(last_value), []
        values = [*self.values, last_value]
        for t in reversed(range(len(self.rewards))):
            delta = self.rewards[t] + gamma * values[t + 1] - values[t]
            advantage = delta + gamma * lam * advantage
            advantages.insert(0, advantage)
        advantages = torch.stack(advantages)
        returns = advantages + torch.stack(self.values)
        flat = [torch.stack(rows).flatten(0, 1) for rows in (self.states, self.actions)]
        return *flat, torch.stack(self.log_probs).flatten(), advantages.flatten(), returns.flatten()


@torch.no_grad()
def rollout(env, agent):
    buffer, state, done = Buffer(), env.reset(), False
    while not done:
        dist = agent.policy(state)
        action = dist.sample()
        buffer.states.append(state)
        buffer.actions.append(action)
        buffer.log_probs.append(dist.log_prob(action).sum(-1))
        buffer.values.append(agent.value(state))
        state, reward, done = env.step(action)
        buffer.rewards.append(reward)
    return buffer.finish(agent.value(state))


def update(agent, optimizer, batch, epochs=3, size=80, clip=0.2):
    states, actions, old, advantages, returns = batch
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    for _ in range(epochs):
        for index in torch.randperm(len(states)).split(size):
            dist = agent.policy(states[index])
            ratio = (dist.log_prob(actions[index]).sum(-1) - old[index]).exp()
            gain = advantages[index]
            policy_loss = -torch.min(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain).mean()
            value_loss = (agent.value(states[index]) - returns[index]).pow(2).mean()
            loss = policy_loss + 0.5 * value_loss - 0.001 * dist.entropy().sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()


def main():
    torch.manual_seed(0)
    env, agent = PointEnv(seed=7), ActorCritic()
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-3)
    for iteration in range(10):
        batch = rollout(env, agent)
        update(agent, optimizer, batch)
        print(iteration, batch[-1].mean().item())


if __name__ == "__main__":
    main()
