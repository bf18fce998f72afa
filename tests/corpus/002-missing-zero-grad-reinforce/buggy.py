# REINFORCE on a 1-d corridor. Start in the middle, +1 at the right end, -1 at the left end.
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.distributions import Categorical

torch.manual_seed(543)
LENGTH, GAMMA, EPISODES = 9, 0.97, 160


class Corridor:
    def reset(self):
        self.pos, self.t = LENGTH // 2, 0
        return self._obs()

    def _obs(self):
        return F.one_hot(torch.tensor(self.pos), LENGTH).float()

    def step(self, a):
        self.pos += 1 if a == 1 else -1
        self.t += 1
        if self.pos == LENGTH - 1:
            return self._obs(), 1.0, True
        if self.pos == 0:
            return self._obs(), -1.0, True
        return self._obs(), -0.02, self.t >= 40


policy = nn.Sequential(nn.Linear(LENGTH, 24), nn.ReLU(), nn.Linear(24, 2))
optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
env = Corridor()

running = 0.0
episode = 0
while episode < EPISODES:
    obs, done = env.reset(), False
    log_probs, rewards = [], []
    while not done:
        dist = Categorical(logits=policy(obs))
        action = dist.sample()
        log_probs.append(dist.log_prob(action))
        obs, r, done = env.step(action.item())
        rewards.append(r)

    R, returns = 0.0, []
    for r in reversed(rewards):
        R = r + GAMMA * R
        returns.insert(0, R)
    returns = torch.tensor(returns)
    policy_loss = -(torch.stack(log_probs) * returns).sum()

    policy_loss.backward()
    optimizer.step()

    running = 0.95 * running + 0.05 * sum(rewards)
    episode += 1
    if episode % 40 == 0:
        print(f"episode {episode}  length {len(rewards)}  running reward {running:.3f}")
