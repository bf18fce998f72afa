import numpy as np
import torch
import torch.nn as nn
from torch.distributions import Normal

# ---- point mass environment: keep x close to the origin ----
class PointMass:
    def __init__(self, rng):
        self.rng = rng

    def reset(self):
        self.x = self.rng.uniform(-1, 1)
        self.v = 0.0
        self.t = 0
        return np.array([self.x, self.v], dtype=np.float32)

    def step(self, a):
        self.v = 0.9 * self.v + 0.1 * float(np.clip(a, -1, 1))
        self.x += self.v
        self.t += 1
        return np.array([self.x, self.v], dtype=np.float32), -self.x ** 2, self.t >= 25


def mlp(i, o):
    return nn.Sequential(nn.Linear(i, 32), nn.Tanh(), nn.Linear(32, o))


class Agent:
    def __init__(self):
        self.pi, self.vf = mlp(2, 1), mlp(2, 1)
        self.log_std = nn.Parameter(torch.full((1,), -0.5))
        self.pi_opt = torch.optim.Adam([*self.pi.parameters(), self.log_std], lr=3e-3)
        self.vf_opt = torch.optim.Adam(self.vf.parameters(), lr=1e-2)

    def dist(self, obs):
        return Normal(self.pi(obs), self.log_std.exp())

    def rollout(self, env, episodes, gamma=0.95):
        O, A, R = [], [], []
        for _ in range(episodes):
            o, done, rew = env.reset(), False, []
            while not done:
                ot = torch.from_numpy(o)
                with torch.no_grad():
                    a = self.dist(ot).sample()
                O.append(ot)
                A.append(a)
                o, r, done = env.step(a.item())
                rew.append(r)
            g, ret = 0.0, []
            for r in rew[::-1]:
                g = r + gamma * g
                ret.append(g)
            R += ret[::-1]
        return torch.stack(O), torch.stack(A), torch.tensor(R, dtype=torch.float32).unsqueeze(1)

    def update(self, obs, act, ret, clip=0.2):
        with torch.no_grad():
            old_logp = self.dist(obs).log_prob(act)
            adv = ret - self.vf(obs)
            adv = (adv - adv.mean()) / (adv.std() + 1e-8)
        for _ in range(4):
            ratio = (self.dist(obs).log_prob(act) - old_logp).exp()
            pi_loss = -torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv).mean()
            self.pi_opt.zero_grad()
            pi_loss.backward()
            self.pi_opt.step()

            vf_loss = (self.vf(obs) - ret).pow(2).mean()
            self.vf_opt.zero_grad()
            vf_loss.backward()
        return pi_loss.item(), vf_loss.item()


if __name__ == "__main__":
    torch.manual_seed(2)
    env, agent = PointMass(np.random.default_rng(2)), Agent()
    for it in range(8):
        obs, act, ret = agent.rollout(env, 8)
        pl, vl = agent.update(obs, act, ret)
        print(f"iter {it} return {ret.mean():.3f} pi_loss {pl:.4f} vf_loss {vl:.4f}")
