# expect: nothing
"""Causal convolutions in three spellings: padded on the left, padded and cut, and with masked taps."""
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)


class Left(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.conv, self.left = nn.Conv1d(width, width, 3, dilation=dilation), 2 * dilation

    def forward(self, x):
        return F.relu(self.conv(F.pad(x, (self.left, 0))))


class Cut(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.cut = 2 * dilation
        self.conv = nn.Conv1d(width, width, 3, dilation=dilation, padding=self.cut)

    def forward(self, x):
        return torch.tanh(self.conv(x)[:, :, : -self.cut])


class Masked(nn.Conv1d):
    def __init__(self, width):
        super().__init__(width, width, 5, padding=2)
        self.register_buffer("mask", torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]))

    def forward(self, x):
        return F.conv1d(x, self.weight * self.mask, self.bias, padding=2)


class Net(nn.Module):
    def __init__(self, tokens=10, width=16):
        super().__init__()
        self.inside = nn.Embedding(tokens, width)
        self.layers = nn.ModuleList([Left(width, 1), Left(width, 2), Cut(width, 2), Masked(width)])
        self.outside = nn.Conv1d(width, tokens, 1)

    def forward(self, tokens):
        x = self.inside(tokens).transpose(1, 2)
        for layer in self.layers:
            x = x + layer(x)
        return self.outside(x)


model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(40):
    tokens = torch.randint(0, 10, (8, 25)).cumsum(1) % 10
    loss = F.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
