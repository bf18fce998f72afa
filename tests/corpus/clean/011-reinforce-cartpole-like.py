import math
import torch
import torch.nn as nn
from torch.distributions import Categorical

torch.manual_seed(11)


class Pole:
    def reset(self):
        self.th, self.w, self.t = 0.05 * torch.randn(1).item(), 0.0, 0
        return torch.tensor([self.th, self.w])

    def step(self, a):
        self.w += 0.1 * (3.0 * math.sin(self.th) + (1.0 if a else -1.0) * 0.8)
        self.th += 0.1 * self.w
        self.t += 1
        return torch.tensor([self.th, self.w]), 1.0, abs(self.th) > 0.5 or self.t >= 60


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.affine1 = nn.Linear(2, 32)
        self.dropout = nn.Dropout(p=0.1)
        self.affine2 = nn.Linear(32, 2)
        self.saved_log_probs, self.rewards = [], []

    def forward(self, x):
        return Categorical(logits=self.affine2(torch.relu(self.dropout(self.affine1(x)))))


policy = Policy()
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
env = Pole()


def finish_episode(gamma=0.98):
    R, returns = 0.0, []
    for r in reversed(policy.rewards):
        R = r + gamma * R
        returns.insert(0, R)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + 1e-6)
    loss = torch.stack([-lp * g for lp, g in zip(policy.saved_log_probs, returns)]).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    policy.rewards.clear()
    policy.saved_log_probs.clear()


running = 10.0
for episode in range(1, 41):
    s, done = env.reset(), False
    while not done:
        d = policy(s)
        a = d.sample()
        policy.saved_log_probs.append(d.log_prob(a))
        s, r, done = env.step(a.item())
        policy.rewards.append(r)
    running = 0.9 * running + 0.1 * len(policy.rewards)
    finish_episode()
    if episode % 10 == 0:
        print(f"episode {episode} running length {running:.1f}")
