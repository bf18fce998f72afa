import torch
import torch.nn as nn

torch.manual_seed(12)
N_ENV, T = 8, 10


class Chain:
    """vectorised chain walk"""
    def __init__(self, n):
        self.s = torch.zeros(n, dtype=torch.long)

    def obs(self):
        return nn.functional.one_hot(self.s, 7).float()

    def step(self, a):
        self.s = (self.s + 2 * a - 1).clamp(0, 6)
        r = (self.s == 6).float()
        self.s[self.s == 6] = 0
        return self.obs(), r


class AC(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(7, 32), nn.ReLU())
        self.pi, self.v = nn.Linear(32, 2), nn.Linear(32, 1)

    def forward(self, o):
        h = self.body(o)
        return torch.distributions.Categorical(logits=self.pi(h)), self.v(h).squeeze(-1)


env, net = Chain(N_ENV), AC()
opt = torch.optim.RMSprop(net.parameters(), lr=4e-3)
o = env.obs()
for update in range(1, 61):
    logps, values, rewards, ents = [], [], [], []
    for _ in range(T):
        dist, v = net(o)
        a = dist.sample()
        o, r = env.step(a)
        logps.append(dist.log_prob(a)); values.append(v); rewards.append(r); ents.append(dist.entropy())
    with torch.no_grad():
        R = net(o)[1]
    returns = []
    for r in reversed(rewards):
        R = r + 0.95 * R
        returns.append(R)
    returns = torch.stack(returns[::-1])
    values = torch.stack(values)
    adv = returns - values
    loss = -(torch.stack(logps) * adv.detach()).mean() + 0.5 * adv.square().mean() - 0.01 * torch.stack(ents).mean()
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 0.5)
    opt.step()
    if update % 20 == 0:
        print(update, "reward", round(torch.stack(rewards).mean().item(), 3))
