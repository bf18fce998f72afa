"""Wasserstein GAN with gradient penalty; the critic is frozen while the generator learns."""
import torch
from torch import nn
from torch.autograd import grad


def mlp(inputs, outputs, hidden=48):
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, outputs)
    )


def freeze(network):
    for p in network.parameters():
        p.requires_grad_(False)


def unfreeze(network):
    for p in network.parameters():
        p.requires_grad_(True)


def gradient_penalty(critic, real, fake):
    mix = torch.rand(len(real), 1)
    between = (mix * real + (1 - mix) * fake).requires_grad_(True)
    (slope,) = grad(critic(between).sum(), between, create_graph=True)
    return (slope.norm(2, dim=1) - 1).pow(2).mean()


class WGAN:
    def __init__(self, z=8, critic_steps=3, penalty=10.0):
        self.z, self.critic_steps, self.penalty = z, critic_steps, penalty
        self.generator, self.critic = mlp(z, 2), mlp(2, 1)
        self.opt_g = torch.optim.Adam(self.generator.parameters(), lr=1e-3, betas=(0.0, 0.9))
        self.opt_d = torch.optim.Adam(self.critic.parameters(), lr=1e-3, betas=(0.0, 0.9))

    def critic_step(self, real):
        unfreeze(self.critic)
        fake = self.generator(torch.randn(len(real), self.z)).detach()
        loss = self.critic(fake).mean() - self.critic(real).mean()
        loss = loss + self.penalty * gradient_penalty(self.critic, real, fake)
        self.opt_d.zero_grad()
        loss.backward()
        self.opt_d.step()
        return loss.item()

    def generator_step(self, count):
        freeze(self.critic)
        loss = -self.critic(self.generator(torch.randn(count, self.z))).mean()
        self.opt_g.zero_grad()
        loss.backward()
        self.opt_g.step()
        return loss.item()

    def fit(self, draw, steps=40, batch_size=64):
        for step in range(steps):
            for _ in range(self.critic_steps):
                d_loss = self.critic_step(draw(batch_size))
            g_loss = self.generator_step(batch_size)
            if step % 10 == 9:
                print(f"{step + 1}: critic {d_loss:.3f}, generator {g_loss:.3f}")


def ring(count):
    angle = torch.randint(0, 8, (count,)) * (torch.pi / 4)
    return torch.stack([angle.cos(), angle.sin()], dim=1) * 2 + 0.05 * torch.randn(count, 2)


if __name__ == "__main__":
    torch.manual_seed(0)
    WGAN().fit(ring)
