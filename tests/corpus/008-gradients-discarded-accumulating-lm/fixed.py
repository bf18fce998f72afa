import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class GPTConfig:
    block_size: int = 24
    n_layer: int = 1
    n_head: int = 2
    n_embd: int = 32
    grad_accum: int = 4
    micro_batch: int = 8
    steps: int = 40
    lr: float = 5e-3


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(c.n_embd), nn.LayerNorm(c.n_embd)
        self.qkv = nn.Linear(c.n_embd, 3 * c.n_embd)
        self.proj = nn.Linear(c.n_embd, c.n_embd)
        self.mlp = nn.Sequential(nn.Linear(c.n_embd, 4 * c.n_embd), nn.GELU(), nn.Linear(4 * c.n_embd, c.n_embd))
        self.h = c.n_head

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (t.view(B, T, self.h, C // self.h).transpose(1, 2) for t in self.qkv(self.ln1(x)).split(C, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self, vocab, c):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, c.n_embd), nn.Embedding(c.block_size, c.n_embd)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.n_layer))
        self.ln_f = nn.LayerNorm(c.n_embd)
        self.head = nn.Linear(c.n_embd, vocab, bias=False)

    def forward(self, idx, targets):
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1)))
        for b in self.blocks:
            x = b(x)
        logits = self.head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


corpus = "\n".join(f"{a}+{b}={a + b};" for a in range(10) for b in range(10))
chars = sorted(set(corpus))
data = torch.tensor([chars.index(c) for c in corpus])
cfg = GPTConfig()
torch.manual_seed(1337)


def get_batch():
    ix = torch.randint(len(data) - cfg.block_size - 1, (cfg.micro_batch,))
    x = torch.stack([data[i:i + cfg.block_size] for i in ix])
    y = torch.stack([data[i + 1:i + 1 + cfg.block_size] for i in ix])
    return x, y


model = GPT(len(chars), cfg)
opt = torch.optim.AdamW(model.parameters(), lr=cfg.lr)
for step in range(cfg.steps):
    lossf = 0.0
    opt.zero_grad(set_to_none=True)
    for micro in range(cfg.grad_accum):
        x, y = get_batch()
        loss = model(x, y) / cfg.grad_accum
        lossf += loss.item()
        loss.backward()
    opt.step()
    if step % 10 == 0 or step == cfg.steps - 1:
        print(f"step {step:4d} loss {lossf:.4f} ppl {math.exp(lossf):.2f}")
