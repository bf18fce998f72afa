import torch
from torch import nn

torch.manual_seed(135)


class WGAN:
    def __init__(self):
        self.gen = nn.Sequential(nn.Linear(3, 24), nn.ReLU(), nn.Linear(24, 2))
        self.critic = nn.Sequential(nn.Linear(2, 24), nn.LeakyReLU(0.2), nn.Linear(24, 1))
        self.opt_g = torch.optim.RMSprop(self.gen.parameters(), lr=1e-3)
        self.opt_c = torch.optim.RMSprop(self.critic.parameters(), lr=1e-3)

    def real(self, n):
        t = torch.rand(n, 1) * 2 - 1
        return torch.cat([t, t ** 2], 1) + 0.05 * torch.randn(n, 2)

    def critic_step(self, n=64):
        fake = self.gen(torch.randn(n, 3))
        loss = self.critic(fake.detach()).mean() - self.critic(self.real(n)).mean()
        self.opt_c.zero_grad()
        loss.backward()
        self.opt_c.step()
        with torch.no_grad():
            for p in self.critic.parameters():
                p.clamp_(-0.1, 0.1)
        return loss.item()

    def gen_step(self, n=64):
        loss = -self.critic(self.gen(torch.randn(n, 3))).mean()
        self.opt_g.zero_grad()
        loss.backward()
        self.opt_g.step()
        return loss.item()


gan = WGAN()
for it in range(1, 61):
    for _ in range(5):
        c = gan.critic_step()
    g = gan.gen_step()
    if it % 20 == 0:
        print(f"iter {it} critic {c:.4f} gen {g:.4f}")
