# expect: nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
text = torch.randint(0, 20, (2000,))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        att = q @ k.transpose(-2, -1) / k.shape[-1] ** 0.5
        mask = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        att = att.masked_fill(mask, float("-inf")).softmax(-1)
        return x + self.out(att @ v)


class LM(nn.Module):
    def __init__(self, vocab=20, width=16):
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.block = Block(width)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        return self.head(self.block(self.embed(tokens)))


model = LM()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for step in range(20):
    start = torch.randint(0, 1900, (8,))
    tokens = torch.stack([text[s : s + 17] for s in start])
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    logits = model(inputs)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
