# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Linear(4, 1)


class ES(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, sigma=0.1):
        super().__init__(params, dict(lr=lr, sigma=sigma))

    @torch.no_grad()
    def step(self, closure):
        for group in self.param_groups:
            for p in group["params"]:
                noise = torch.randn_like(p) * group["sigma"]
                p.add_(noise)
                up = closure()
                p.sub_(2 * noise)
                down = closure()
                p.add_(noise - group["lr"] * (up - down) * noise / group["sigma"] ** 2)


opt = ES(net.parameters())
x = torch.randn(64, 4)
for it in range(30):
    opt.step(lambda: nn.functional.mse_loss(net(x), x.sum(1, keepdim=True)).item())
