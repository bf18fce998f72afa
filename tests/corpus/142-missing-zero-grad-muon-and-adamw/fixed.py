"""Tiny language model: Muon for the matrices, AdamW for the rest."""
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(1337)


@torch.compiler.disable
def zeropower(g, steps=3):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (g.norm() + 1e-7)
    transposed = x.shape[0] > x.shape[1]
    x = x.T if transposed else x
    for _ in range(steps):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x.T if transposed else x


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr=0.02, momentum=0.9):
        super().__init__(params, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "buf" not in state:
                    state["buf"] = torch.zeros_like(p)
                state["buf"].lerp_(p.grad, 1 - group["momentum"])
                p.add_(zeropower(p.grad.lerp(state["buf"], group["momentum"])), alpha=-group["lr"])


class RMSNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return F.rms_norm(x, (x.size(-1),)) * self.gain


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.n1, self.n2 = RMSNorm(d), RMSNorm(d)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.up, self.down = nn.Linear(d, 2 * d, bias=False), nn.Linear(2 * d, d, bias=False)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(self.n1(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(a.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.relu(self.up(self.n2(x))).square())


class LM(nn.Module):
    def __init__(self, vocab, d=32, depth=2):
        super().__init__()
        self.wte = nn.Embedding(vocab, d)
        self.wpe = nn.Embedding(64, d)
        self.blocks = nn.ModuleList(Block(d, 4) for _ in range(depth))
        self.norm = RMSNorm(d)
        self.head = nn.Linear(d, vocab, bias=False)

    def forward(self, idx, targets):
        x = self.wte(idx) + self.wpe.weight[: idx.size(1)]
        for block in self.blocks:
            x = block(x)
        logits = 15 * torch.tanh(self.head(self.norm(x)) / 15)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


stream = torch.tensor([(i * i // 3 + 5 * i) % 23 for i in range(4000)])


def batch(b=16, t=32):
    at = torch.randint(len(stream) - t - 1, (b,))
    window = stream[at[:, None] + torch.arange(t + 1)]
    return window[:, :-1], window[:, 1:]


model = LM(23)
matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
chosen = {id(p) for p in matrices}
others = [p for p in model.parameters() if id(p) not in chosen]
optimizers = [Muon(matrices, lr=0.02), torch.optim.AdamW(others, lr=3e-3, betas=(0.8, 0.95))]

for step in range(80):
    x, y = batch()
    loss = model(x, y)
    loss.backward()
    for opt in optimizers:
        opt.step()
    for opt in optimizers:
        opt.zero_grad(set_to_none=True)
    if step % 20 == 0:
        print(f"step {step:3d} | loss {loss.item():.4f}")
