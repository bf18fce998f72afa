"""Contrastive text-image pretraining in miniature, with updates wrapped in a context manager."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn


class Towers(nn.Module):
    def __init__(self, image=24, words=50, d=16):
        super().__init__()
        self.image = nn.Sequential(nn.Linear(image, 48), nn.GELU(), nn.Linear(48, d))
        self.text = nn.Sequential(nn.EmbeddingBag(words, 32), nn.GELU(), nn.Linear(32, d))
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.bias = nn.Parameter(torch.tensor(-5.0))

    def forward(self, image, text):
        a, b = F.normalize(self.image(image), dim=-1), F.normalize(self.text(text), dim=-1)
        return a @ b.T * self.log_scale.exp() + self.bias


def sigmoid_loss(logits):
    sign = 2 * torch.eye(len(logits)) - 1
    return -F.logsigmoid(sign * logits).sum(-1).mean()


class Engine:
    def __init__(self, model: nn.Module, accumulate: int):
        self.model, self.accumulate, self.micro = model, accumulate, 0
        self.opt = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)

    @contextlib.contextmanager
    def update(self) -> Iterator[None]:
        """One micro-batch; the weights move at the end of every window."""
        self.opt.zero_grad()
        yield
        self.micro += 1
        if self.micro % self.accumulate == 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.opt.step()

    def run(self, batches) -> float:
        total = 0.0
        for image, text in batches:
            with self.update():
                loss = sigmoid_loss(self.model(image, text)) / self.accumulate
                loss.backward()
            total += loss.item() * self.accumulate
        return total


def pairs(n, size, seed):
    g = torch.Generator().manual_seed(seed)
    look = torch.randn(10, 24, generator=torch.Generator().manual_seed(9))
    for _ in range(n):
        topic = torch.randint(10, (size,), generator=g)
        text = torch.randint(5, (size, 6), generator=g) + 5 * topic[:, None]
        yield look[topic] + 0.3 * torch.randn(size, 24, generator=g), text


torch.manual_seed(4)
engine = Engine(Towers(), accumulate=4)
for epoch in range(4):
    print(f"epoch {epoch}: {engine.run(pairs(24, 16, epoch)) / 24:.4f}")
