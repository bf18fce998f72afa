# expect: nothing
"""An encoder-decoder whose source and target are equally long: only the decoder must not look ahead."""
import math

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
LENGTH, TOKENS, WIDTH = 6, 12, 16


def attend(q, k, v, ahead):
    scores = q @ k.transpose(1, 2) / math.sqrt(WIDTH)
    if not ahead:
        scores = scores.masked_fill(torch.ones(LENGTH, LENGTH).triu(1).bool(), -1e9)
    return torch.softmax(scores, -1) @ v


class Translator(nn.Module):
    def __init__(self):
        super().__init__()
        self.source, self.target = nn.Embedding(TOKENS, WIDTH), nn.Embedding(TOKENS, WIDTH)
        self.places = nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.1)
        self.layers = nn.ModuleList([nn.Linear(WIDTH, 3 * WIDTH) for _ in range(4)])
        self.out = nn.Linear(WIDTH, TOKENS)

    def forward(self, source, target):
        x = self.source(source) + self.places
        x = x + attend(*self.layers[0](x).chunk(3, -1), ahead=True)
        q, k, v = self.layers[3](x).chunk(3, -1)
        x = x + F.scaled_dot_product_attention(q, k, v)
        y = self.target(target) + self.places
        y = y + attend(*self.layers[1](y).chunk(3, -1), ahead=False)
        q = self.layers[2](y)[..., :WIDTH]
        k, v = self.layers[2](x)[..., WIDTH:].chunk(2, -1)
        return self.out(y + attend(q, k, v, ahead=True) + F.scaled_dot_product_attention(q, k, v))


model = Translator()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(40):
    source = torch.randint(1, TOKENS, (16, LENGTH))
    target = torch.cat([torch.zeros(16, 1, dtype=torch.long), source.flip(1)], 1)
    logits = model(source, target[:, :-1])
    loss = F.cross_entropy(logits.reshape(-1, TOKENS), target[:, 1:].reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
