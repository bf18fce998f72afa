"""A schedule-free optimizer: gradients at an interpolated point, evaluation at the average, switched by train() and eval()."""
import torch
from torch import nn


class ScheduleFreeSGD(torch.optim.Optimizer):
    def __init__(self, params, lr=0.5, beta=0.9, warmup=10):
        super().__init__(params, dict(lr=lr, beta=beta, warmup=warmup))
        self.k, self.weight_sum, self.training = 0, 0.0, False

    @torch.no_grad()
    def _move(self, towards_z):
        for group in self.param_groups:
            for p in group["params"]:
                z = self.state[p].get("z")
                if z is not None:
                    p.lerp_(z, towards_z(group["beta"]))

    def eval(self):
        if self.training:
            self._move(lambda beta: 1 - 1 / beta)
        self.training = False

    def train(self):
        if not self.training:
            self._move(lambda beta: 1 - beta)
        self.training = True

    @torch.no_grad()
    def step(self, closure=None):
        assert self.training, "call train() first"
        self.k += 1
        for group in self.param_groups:
            lr = group["lr"] * min(1.0, self.k / group["warmup"])
            self.weight_sum += lr**2
            c = lr**2 / self.weight_sum
            for p in group["params"]:
                if p.grad is None:
                    continue
                z = self.state[p].setdefault("z", p.clone())
                p.lerp_(z, c)
                p.add_(p.grad, alpha=lr * (group["beta"] * (1 - c) - 1))
                z.sub_(p.grad, alpha=lr)


def spirals(n, g):
    t = torch.rand(n, generator=g) * 3 + 0.5
    y = torch.randint(2, (n,), generator=g)
    a = t * 2 + 3.1416 * y
    return torch.stack([t * a.cos(), t * a.sin()], 1) / 2 + 0.05 * torch.randn(n, 2, generator=g), y


torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
x, y = spirals(800, g)
xt, yt = spirals(400, g)
net = nn.Sequential(nn.Linear(2, 48), nn.BatchNorm1d(48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 2))
opt = ScheduleFreeSGD(net.parameters())
loss_fn = nn.CrossEntropyLoss()
for epoch in range(8):
    net.train()
    opt.train()
    for rows in torch.randperm(len(x)).split(50):
        opt.zero_grad()
        loss = loss_fn(net(x[rows]), y[rows])
        loss.backward()
        opt.step()
    opt.eval()
    with torch.no_grad():
        # the running statistics belong to the other weights: a few forwards in train mode give those of the average
        for rows in torch.arange(len(x)).split(200):
            net(x[rows])
        net.eval()
        right = (net(xt).argmax(1) == yt).float().mean()
    print(epoch, f"{loss.item():.3f} {right:.3f}")
