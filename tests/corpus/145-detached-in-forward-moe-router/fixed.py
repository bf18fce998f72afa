import torch
import torch.nn as nn
import torch.nn.functional as F


class Expert(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(d, h), nn.Linear(d, h), nn.Linear(h, d)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class SparseMoE(nn.Module):
    """Top-k experts a token, balanced by a bias that is adjusted without gradients."""

    def __init__(self, d, n_experts=6, k=2):
        super().__init__()
        self.k = k
        self.router = nn.Linear(d, n_experts, bias=False)
        self.experts = nn.ModuleList(Expert(d, 2 * d) for _ in range(n_experts))
        self.register_buffer("balance", torch.zeros(n_experts))

    @torch.no_grad()
    def assign(self, scores):
        chosen = (scores + self.balance).topk(self.k, dim=-1).indices
        if self.training:
            load = torch.bincount(chosen.flatten(), minlength=len(self.experts)).float()
            self.balance += 0.01 * torch.sign(load.mean() - load)
        return chosen

    def weigh(self, scores, chosen):
        weights = scores.gather(-1, chosen)
        return weights / weights.sum(-1, keepdim=True)

    def forward(self, x):
        scores = torch.sigmoid(self.router(x))
        chosen = self.assign(scores)
        weights = self.weigh(scores, chosen)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            row, slot = torch.where(chosen == i)
            if len(row):
                out.index_add_(0, row, expert(x[row]) * weights[row, slot, None])
        return x + out


class Net(nn.Module):
    def __init__(self, d_in, d=24, classes=4):
        super().__init__()
        self.stem = nn.Linear(d_in, d)
        self.moe = SparseMoE(d)
        self.head = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, classes))

    def forward(self, x):
        return self.head(self.moe(F.gelu(self.stem(x))))


def make(n, g):
    centre = torch.randn(4, 3, 10, generator=torch.Generator().manual_seed(5)) * 1.5
    y = torch.randint(4, (n,), generator=g)
    which = torch.randint(3, (n,), generator=g)
    return centre[y, which] + torch.randn(n, 10, generator=g), y


torch.manual_seed(11)
g = torch.Generator().manual_seed(1)
x, y = make(768, g)
net = Net(10)
optim = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(5):
    net.train()
    for rows in torch.randperm(len(x), generator=g).chunk(16):
        loss = F.cross_entropy(net(x[rows]), y[rows], label_smoothing=0.05)
        optim.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optim.step()
    net.eval()
    with torch.no_grad():
        xt, yt = make(400, g)
        print(epoch, f"{loss.item():.3f}", f"{(net(xt).argmax(1) == yt).float().mean().item():.3f}")
