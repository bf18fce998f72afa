"""DQN on a little corridor, an agent class with a replay memory and a target network."""
import copy
import random
from collections import deque

import torch
from torch import nn


class Corridor:
    def reset(self):
        self.at = 3
        return self.state()

    def state(self):
        return nn.functional.one_hot(torch.tensor(self.at), 8).float()

    def step(self, action):
        self.at += 1 if action else -1
        done = self.at in (0, 7)
        return self.state(), float(self.at == 7), done


class Agent:
    def __init__(self):
        self.q = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
        self.target = copy.deepcopy(self.q)
        self.memory = deque(maxlen=500)
        self.optimizer = torch.optim.Adam(self.q.parameters(), lr=2e-3)
        self.updates = 0

    def act(self, s, eps):
        if random.random() < eps:
            return random.randrange(2)
        with torch.no_grad():
            return int(self.q(s).argmax())

    def learn(self, size=32, gamma=0.95):
        s, a, r, s2, d = zip(*random.sample(self.memory, size))
        s, s2 = torch.stack(s), torch.stack(s2)
        a, r, d = torch.tensor(a), torch.tensor(r), torch.tensor(d, dtype=torch.float)
        best = self.q(s2).argmax(1, keepdim=True)
        future = self.q(s2).gather(1, best).squeeze(1)
        goal = r + gamma * (1 - d) * future
        value = self.q(s).gather(1, a[:, None]).squeeze(1)
        loss = nn.functional.smooth_l1_loss(value, goal)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.updates += 1
        if self.updates % 25 == 0:
            self.target.load_state_dict(self.q.state_dict())
        return loss.item()


random.seed(0)
torch.manual_seed(0)
env, agent, loss = Corridor(), Agent(), None
for episode in range(30):
    s, done, steps = env.reset(), False, 0
    while not done and steps < 40:
        a = agent.act(s, max(0.1, 1 - episode / 20))
        s2, r, done = env.step(a)
        agent.memory.append((s, a, r, s2, done))
        s, steps = s2, steps + 1
        if len(agent.memory) >= 64:
            loss = agent.learn()
    if episode % 10 == 0:
        print(episode, loss)
