"""Models, optimizers and settings whose steps can be captured."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import loopwright as lw


class Attention(nn.Module):
    """Embedding, self-attention with a causal mask that is made anew, layer norm, tied weights."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(16, 8)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 16, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x):
        h = self.embed(x)
        mask = torch.triu(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool), 1)
        a, _ = self.attention(h, h, h, attn_mask=mask, need_weights=False)
        return self.out(self.norm(h + a))


class Recurrent(nn.Module):
    """An LSTM and the last of its outputs."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 5, num_layers=2, batch_first=True, dropout=0.2)
        self.out = nn.Linear(5, 1)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


class Shared(nn.Module):
    """Two offsets that get one and the same gradient, and one whose gradient is the input's shape of ones."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.a, self.b = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.ones(4))
        self.c = nn.Parameter(torch.zeros(4))

    def forward(self, x):
        h = self.linear(x).relu()
        out = ((h + (self.a + self.b)) * (1 + self.c)).sum(1, keepdim=True) + self.a.sum()
        return out / 10


def numbers(*shape, classes=None, samples=40):
    """Inputs and targets."""
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(samples, *shape, generator=draw)
    if classes is None:
        return TensorDataset(x, x.flatten(1).sum(1, keepdim=True))
    return TensorDataset(x, torch.randint(classes, (samples,), generator=draw))


def tokens():
    """Sequences and the same, shifted."""
    draw = torch.Generator().manual_seed(3)
    text = torch.randint(16, (40, 7), generator=draw)
    return TensorDataset(text[:, :-1], text[:, 1:])


MODELS = {
    "perceptron": (
        lambda: nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 4)),
        lambda: numbers(6, classes=4), F.cross_entropy,
    ),
    "batch norm": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3),
        ),
        lambda: numbers(1, 8, 8, classes=3), F.cross_entropy,
    ),
    "attention": (
        Attention, tokens, lambda out, y: F.cross_entropy(out.reshape(-1, 16), y.reshape(-1)),
    ),
    "recurrent": (Recurrent, lambda: numbers(5, 3), F.mse_loss),
    "shared": (Shared, lambda: numbers(3), F.mse_loss),
    "regression": (lambda: nn.Linear(3, 1), lambda: numbers(3), F.huber_loss),
}  # fmt: skip
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, foreach=True),
    "groups": lambda p: torch.optim.AdamW(
        [{"params": [next(p)], "lr": 0.02}, {"params": list(p), "weight_decay": 0.0}], lr=0.01
    ),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
}
SETTINGS = {
    "plain": {},
    "clip": {"clip": 0.1},
    "clip values": {"clip": "value:0.01"},
    "schedule": {"scheduler": lw.warmup_cosine(0.3)},
    "per epoch": {"scheduler": "per epoch"},
    "ema": {"ema": 0.8},
    "bf16": {"precision": "bf16"},
}
