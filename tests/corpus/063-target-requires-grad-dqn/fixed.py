import random
from collections import deque, namedtuple

import torch
import torch.nn as nn
import torch.nn.functional as F

Transition = namedtuple("Transition", "s a r s2 done")


class Corridor:
    """walk right to the goal; 8 cells"""

    def __init__(self, n=8):
        self.n = n

    def reset(self):
        self.pos, self.t = 0, 0
        return self.obs()

    def obs(self):
        v = torch.zeros(self.n)
        v[self.pos] = 1.0
        return v

    def step(self, action):
        self.t += 1
        self.pos = max(0, self.pos - 1) if action == 0 else min(self.n - 1, self.pos + 1)
        goal = self.pos == self.n - 1
        return self.obs(), 1.0 if goal else -0.01, goal or self.t >= 30


class QNet(nn.Module):
    def __init__(self, n, actions=2):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n, 32), nn.ReLU(), nn.Linear(32, actions))

    def forward(self, s):
        return self.net(s)


def learn(q, opt, batch, gamma=0.95):
    s, a, r, s2, d = (torch.stack([torch.as_tensor(v) for v in col]) for col in zip(*batch))
    q_sa = q(s).gather(1, a.unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        target = r.float() + gamma * q(s2).max(1).values * (1 - d.float())
    loss = F.smooth_l1_loss(q_sa, target)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss.item()


def main():
    random.seed(0)
    torch.manual_seed(0)
    env, q = Corridor(), QNet(8)
    opt = torch.optim.Adam(q.parameters(), lr=5e-3)
    memory = deque(maxlen=2000)
    for ep in range(30):
        s, done, ret, loss = env.reset(), False, 0.0, 0.0
        eps = max(0.1, 1 - ep / 15)
        while not done:
            if random.random() < eps:
                a = random.randrange(2)
            else:
                with torch.no_grad():
                    a = q(s.unsqueeze(0)).argmax(1).item()
            s2, r, done = env.step(a)
            memory.append(Transition(s, a, r, s2, done))
            s, ret = s2, ret + r
            if len(memory) >= 64:
                loss = learn(q, opt, random.sample(memory, 32))
        if ep % 10 == 9:
            print(f"episode {ep + 1} return {ret:.2f} loss {loss:.4f}")


main()
