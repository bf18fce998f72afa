import copy
import torch
import torch.nn as nn

torch.manual_seed(38)


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1), nn.Tanh())

    def forward(self, s):
        return self.net(s)


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, s, a):
        return self.net(torch.cat([s, a], 1))


actor, critic = Actor(), Critic()
actor_t, critic_t = copy.deepcopy(actor), copy.deepcopy(critic)
opt_a = torch.optim.Adam(actor.parameters(), lr=1e-3)
opt_c = torch.optim.Adam(critic.parameters(), lr=3e-3)
S = torch.randn(512, 2)
for it in range(1, 151):
    s = S[torch.randint(512, (64,))]
    with torch.no_grad():
        a = (actor(s) + 0.2 * torch.randn(64, 1)).clamp(-1, 1)
        r = -(a - s[:, :1].tanh()).square()
        s2 = s + 0.1 * a
        y = r + 0.5 * critic_t(s2, actor_t(s2))
    critic_loss = nn.functional.mse_loss(critic(s, a), y)
    opt_c.zero_grad()
    critic_loss.backward()
    opt_c.step()

    actor_loss = -critic(s, actor(s)).mean()      # fills the critic's .grad too; cleared before its next step
    opt_a.zero_grad()
    actor_loss.backward()
    opt_a.step()
    with torch.no_grad():
        for live, slow in ((actor, actor_t), (critic, critic_t)):
            for p, q in zip(live.parameters(), slow.parameters()):
                q.lerp_(p, 0.02)
    if it % 50 == 0:
        print(it, f"critic {critic_loss.item():.4f} actor {actor_loss.item():.4f}")
