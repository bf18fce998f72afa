import torch
import torch.nn as nn
import torch.nn.functional as F


def clones(module, n):
    """n identical layers"""
    return nn.ModuleList([module for _ in range(n)])


class EncoderLayer(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.attn = nn.MultiheadAttention(d, heads, batch_first=True)
        self.ff = nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, d))
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, x):
        h = self.n1(x)
        x = x + self.attn(h, h, h, need_weights=False)[0]
        return x + self.ff(self.n2(x))


class Encoder(nn.Module):
    def __init__(self, vocab, d=32, heads=2, n=3):
        super().__init__()
        self.tok = nn.Embedding(vocab, d)
        self.pos = nn.Parameter(torch.randn(1, 12, d) * 0.02)
        self.layers = clones(EncoderLayer(d, heads), n)
        self.norm = nn.LayerNorm(d)
        self.out = nn.Linear(d, vocab)

    def forward(self, x):
        h = self.tok(x) + self.pos
        for layer in self.layers:
            h = layer(h)
        return self.out(self.norm(h))


torch.manual_seed(3)
model = Encoder(10)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for step in range(150):
    src = torch.randint(0, 10, (32, 12))
    tgt = src.flip(1)
    loss = F.cross_entropy(model(src).transpose(1, 2), tgt)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 49:
        print(f"step {step + 1}  loss {loss.item():.4f}")
