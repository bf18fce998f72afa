import copy
import random
import torch
from torch import nn, optim

random.seed(1)
torch.manual_seed(1)
GAMMA, SYNC_EVERY, BATCH = 0.9, 25, 32


def mlp(i, o):
    return nn.Sequential(nn.Linear(i, 32), nn.Tanh(), nn.Linear(32, o))


# two-armed gridworld with 5 one-hot states on a circle, reward in state 0
def step(state, action):
    nxt = (state + (1 if action else -1)) % 5
    return nxt, float(nxt == 0)


def onehot(states):
    return torch.eye(5)[torch.as_tensor(states)]


policy_net = mlp(5, 2)
target_net = copy.deepcopy(policy_net)
target_net.requires_grad_(False)
optimizer = optim.Adam(policy_net.parameters(), lr=3e-3)
criterion = nn.MSELoss()
buffer, state = [], 2
for t in range(1, 401):
    eps = max(0.05, 1 - t / 200)
    with torch.no_grad():
        greedy = int(policy_net(onehot([state])).argmax())
    action = random.randrange(2) if random.random() < eps else greedy
    nxt, reward = step(state, action)
    buffer.append((state, action, reward, nxt))
    state = nxt
    if len(buffer) < BATCH:
        continue
    s, a, r, s2 = map(list, zip(*random.sample(buffer, BATCH)))
    with torch.no_grad():
        y = torch.tensor(r) + GAMMA * target_net(onehot(s2)).max(1)[0]
    q = policy_net(onehot(s))[torch.arange(BATCH), torch.tensor(a)]
    loss = criterion(q, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if t % SYNC_EVERY == 0:
        target_net.load_state_dict(policy_net.state_dict())
    if t % 100 == 0:
        print(t, "loss", round(loss.item(), 4), "q", [round(v, 2) for v in policy_net(onehot([4])).detach()[0].tolist()])
