import torch
import torch.nn as nn
from torch.distributions import Normal

torch.manual_seed(39)


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.mu = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
        self.log_std = nn.Parameter(torch.zeros(1) - 0.5)
        self.v = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))

    def dist(self, o):
        return Normal(self.mu(o), self.log_std.exp())


agent = Agent()
opt = torch.optim.Adam(agent.parameters(), lr=3e-3, eps=1e-5)
for update in range(1, 21):
    with torch.no_grad():
        obs = torch.randn(256, 3)
        d = agent.dist(obs)
        act = d.sample()
        old_logp = d.log_prob(act).squeeze(1)
        rew = -(act.squeeze(1) - obs.sum(1)).abs()
        adv = rew - agent.v(obs).squeeze(1)
    for _ in range(4):
        for i in torch.randperm(256).split(64):
            d = agent.dist(obs[i])
            ratio = (d.log_prob(act[i]).squeeze(1) - old_logp[i]).exp()
            a = (adv[i] - adv[i].mean()) / (adv[i].std() + 1e-8)
            pg = -torch.min(ratio * a, ratio.clamp(0.8, 1.2) * a).mean()
            vl = (agent.v(obs[i]).squeeze(1) - rew[i]).square().mean()
            loss = pg + 0.5 * vl - 0.001 * d.entropy().mean()
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            opt.step()
    if update % 5 == 0:
        print(f"update {update} reward {rew.mean().item():.3f}")
