import torch
import torch.nn as nn
import torch.nn.functional as F


class MoE(nn.Module):
    def __init__(self, d, n_experts=6, hidden=32):
        super().__init__()
        self.gate = nn.Linear(d, n_experts)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(d, hidden), nn.ReLU(), nn.Linear(hidden, d))
                                     for _ in range(n_experts))

    def forward(self, x):
        probs = F.softmax(self.gate(x), dim=-1)
        weight, idx = probs.max(dim=-1)
        out = torch.zeros_like(x)
        for k, expert in enumerate(self.experts):
            sel = (idx == k).nonzero(as_tuple=True)[0]
            if len(sel):
                out = out.index_add(0, sel, weight[sel, None] * expert(x[sel]))
        load = torch.bincount(idx, minlength=probs.size(1)).float() / len(x)
        return x + out, probs.size(1) * (load * probs.mean(0)).sum()


torch.manual_seed(19)
moe, head = MoE(8), nn.Linear(8, 4)
opt = torch.optim.Adam([*moe.parameters(), *head.parameters()], lr=3e-3)
for step in range(1, 121):
    x = torch.randn(12, 8)                       # small batches: some experts get nothing
    y = (x[:, 0] > 0).long() * 2 + (x[:, 1] * x[:, 2] > 0).long()
    h, aux = moe(x)
    loss = F.cross_entropy(head(h), y) + 0.01 * aux
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 0:
        print(f"step {step} loss {loss.item():.4f} aux {aux.item():.3f}")
