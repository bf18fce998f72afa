# expect: nothing
# A loss of the second and third output alone, and an optimizer that holds both networks.
import itertools

import torch
from torch import nn


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.LeakyReLU(0.2), nn.Dropout(0.2))
        self.real, self.kind, self.code = nn.Linear(32, 1), nn.Linear(32, 4), nn.Linear(32, 2)

    def forward(self, x):
        h = self.body(x)
        return self.real(h), self.kind(h), self.code(h)


torch.manual_seed(0)
maker = nn.Sequential(nn.Linear(8 + 4 + 2, 32), nn.ReLU(), nn.Linear(32, 2))
critic = Critic()
makers = torch.optim.Adam(maker.parameters(), lr=1e-3)
critics = torch.optim.Adam(critic.parameters(), lr=1e-3)
both = torch.optim.Adam(itertools.chain(maker.parameters(), critic.parameters()), lr=1e-3)
ones, zeros = torch.ones(32, 1), torch.zeros(32, 1)


def drawn():
    kind, code = torch.randint(4, (32,)), torch.rand(32, 2)
    noise = torch.randn(32, 8)
    return maker(torch.cat([noise, nn.functional.one_hot(kind, 4).float(), code], 1)), kind, code


for step in range(40):
    real = torch.randn(32, 2) * 0.2 + torch.randint(2, (32, 2)).float()
    makers.zero_grad()
    made, _, _ = drawn()
    nn.functional.mse_loss(critic(made)[0], ones).backward()
    makers.step()

    critics.zero_grad()
    on_real, on_made = critic(real)[0], critic(made.detach())[0]
    (nn.functional.mse_loss(on_real, ones) + nn.functional.mse_loss(on_made, zeros)).backward()
    critics.step()

    both.zero_grad()
    made, kind, code = drawn()
    _, said_kind, said_code = critic(made)
    loss = nn.functional.cross_entropy(said_kind, kind) + nn.functional.mse_loss(said_code, code)
    loss.backward()
    both.step()
