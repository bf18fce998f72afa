import torch
import torch.nn as nn
import torch.nn.functional as F


class Spring(nn.Module):
    def __init__(self):
        super().__init__()
        self.k = nn.Parameter(torch.tensor(1.0))
        self.c = nn.Parameter(torch.tensor(0.1))

    def forward(self, x0, steps=40, dt=0.1):
        x, v, xs = x0, torch.zeros_like(x0), []
        for _ in range(steps):
            v = v + dt * (-self.k * x - self.c * v)
            x = x + dt * v
            xs.append(x)
        return torch.stack(xs, 1)


torch.manual_seed(7)
truth = Spring()
truth.requires_grad_(False)
truth.k.fill_(2.5)
truth.c.fill_(0.4)
model = Spring()
opt = torch.optim.Adam(model.parameters(), lr=0.05)
for step in range(1, 121):
    model.zero_grad(set_to_none=False)
    x0 = torch.randn(16)
    loss = F.mse_loss(model(x0), truth(x0))
    loss.backward()
    opt.step()
    if step % 40 == 0:
        print(f"{step} loss {loss.item():.6f} k {model.k.item():.3f} c {model.c.item():.3f}")
