"""Mixture-of-experts regression: piecewise function, soft gating."""
from __future__ import annotations

import torch
from torch import nn, Tensor


def expert(d_in: int, d_hid: int, d_out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(d_in, d_hid), nn.ReLU(), nn.Linear(d_hid, d_out))


class MoE(nn.Module):
    def __init__(self, d_in: int, d_out: int, n_experts: int = 4) -> None:
        super().__init__()
        self.gate = nn.Linear(d_in, n_experts)
        self.experts = nn.ModuleList(expert(d_in, 16, d_out) for _ in range(n_experts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        w = self.gate(x).softmax(-1)
        y = torch.stack([e(x) for e in self.experts], dim=-1)
        return (y * w.unsqueeze(1)).sum(-1), w


def piecewise(x: Tensor) -> Tensor:
    return torch.where(x < -0.5, -x, torch.where(x < 0.5, x ** 2 - 0.5, torch.sin(4 * x)))


def main() -> None:
    torch.manual_seed(33)
    moe = MoE(1, 1)
    opt = torch.optim.Adam(moe.parameters(), lr=1e-2)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=6)
    xv = torch.linspace(-1.5, 1.5, 200).unsqueeze(1)
    for epoch in range(6):
        for _ in range(40):
            x = torch.rand(64, 1) * 3 - 1.5
            y, w = moe(x)
            load = w.mean(0)
            loss = nn.functional.mse_loss(y, piecewise(x)) + 0.01 * (load * load.log()).sum()
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
        sched.step()
        with torch.no_grad():
            err = (moe(xv)[0] - piecewise(xv)).pow(2).mean().item()
        print(f"epoch {epoch} loss {loss.item():+.4f} grid mse {err:.4f} load {[round(v, 2) for v in load.tolist()]}")


main()
