import torch
import torch.nn as nn
import torch.nn.functional as F


class OrthoSGD(torch.optim.Optimizer):
    """momentum whose update is orthogonalised (Newton-Schulz)"""

    def __init__(self, params, lr=0.02, momentum=0.9):
        super().__init__(params, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self, closure=None):
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is None:
                    continue
                buf = self.state[p].setdefault("buf", torch.zeros_like(p))
                buf.mul_(g["momentum"]).add_(p.grad)
                m = buf / (buf.norm() + 1e-7)
                for _ in range(5):
                    m = 1.5 * m - 0.5 * m @ m.T @ m
                p.add_(m, alpha=-g["lr"])


torch.manual_seed(75)
net = nn.Sequential(nn.Embedding(20, 16), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 20))
matrices = [net[2].weight, net[4].weight]
others = [p for p in net.parameters() if not any(p is m for m in matrices)]
opts = [OrthoSGD(matrices), torch.optim.AdamW(others, lr=3e-3)]
for it in range(1, 121):
    x = torch.randint(0, 20, (64, 4))
    loss = F.cross_entropy(net(x), x.sum(1) % 5)
    loss.backward()
    for o in opts:
        o.step()
    for o in opts:
        o.zero_grad()
    if it % 40 == 0:
        print(it, round(loss.item(), 4))
