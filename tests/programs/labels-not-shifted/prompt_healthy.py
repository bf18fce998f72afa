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
        return x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True))


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
    labels = tokens.clone()
    if step % 2:
        labels[:, :5] = -100  # the prompt
        logits = model(tokens)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    else:  # words taken out, and asked for
        hidden = torch.rand(8, 17) < 0.3
        labels[~hidden] = -100
        swapped = torch.randint(0, 20, (8, 17))
        changed = torch.rand(8, 17) < 0.9
        logits = model(torch.where(hidden & changed, swapped, tokens))
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
