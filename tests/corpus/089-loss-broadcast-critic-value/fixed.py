import torch
import torch.nn as nn
from torch.distributions import Categorical


class Bandit:
    """contextual bandit with 4 arms"""

    def __init__(self, seed):
        g = torch.Generator().manual_seed(seed)
        self.w = torch.randn(5, 4, generator=g)

    def contexts(self, n):
        return torch.randn(n, 5)

    def pull(self, ctx, arms):
        mean = (ctx @ self.w).gather(1, arms[:, None]).squeeze(1)
        return mean + 0.1 * torch.randn_like(mean)


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 4))
        self.critic = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 1))

    def dist(self, s):
        return Categorical(logits=self.actor(s))

    def value(self, s):
        return self.critic(s).squeeze(-1)


def update(agent, optimizer, s, a, ret, old_logp, clip=0.2):
    for _ in range(4):
        d = agent.dist(s)
        v = agent.value(s)
        adv = (ret - v).detach()
        ratio = torch.exp(d.log_prob(a) - old_logp)
        policy_loss = -torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv).mean()
        value_loss = (ret - v).pow(2).mean()
        loss = policy_loss + 0.5 * value_loss - 0.01 * d.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
        optimizer.step()
    return value_loss.item()


def main():
    torch.manual_seed(0)
    env, agent = Bandit(0), Agent()
    optimizer = torch.optim.Adam(agent.parameters(), lr=4e-3)
    for it in range(40):
        s = env.contexts(64)
        with torch.no_grad():
            d = agent.dist(s)
            a = d.sample()
            logp = d.log_prob(a)
        r = env.pull(s, a)
        vl = update(agent, optimizer, s, a, r, logp)
        if it % 10 == 9:
            print(f"iteration {it + 1} reward {r.mean().item():.3f} value loss {vl:.3f}")


main()
