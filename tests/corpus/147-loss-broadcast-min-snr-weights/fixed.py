import torch
from torch import nn


class Denoiser(nn.Module):
    def __init__(self, d=2, h=64):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, h), nn.SiLU(), nn.Linear(h, h))
        self.inp, self.mid, self.out = nn.Linear(d, h), nn.Linear(h, h), nn.Linear(h, d)

    def forward(self, x, t):
        f = torch.exp(torch.arange(8) * -0.8)
        e = self.time(torch.cat([torch.sin(t[:, None] * f), torch.cos(t[:, None] * f)], -1))
        h = torch.nn.functional.silu(self.inp(x) + e)
        return self.out(torch.nn.functional.silu(self.mid(h) + e))


class Diffusion:
    def __init__(self, T=100, gamma=5.0):
        self.T = T
        self.abar = torch.cumprod(1 - torch.linspace(1e-4, 0.05, T), 0)
        snr = self.abar / (1 - self.abar)
        self.weight = torch.minimum(snr, torch.tensor(gamma)) / snr

    def loss(self, model, x0):
        t = torch.randint(self.T, (len(x0),))
        a = self.abar[t][:, None]
        noise = torch.randn_like(x0)
        predicted = model(a.sqrt() * x0 + (1 - a).sqrt() * noise, t.float())
        per_sample = (predicted - noise).pow(2).mean(dim=1)
        w = self.weight[t]
        return (w * per_sample).mean()

    @torch.no_grad()
    def sample(self, model, n):
        x = torch.randn(n, 2)
        for i in reversed(range(self.T)):
            a, before = self.abar[i], self.abar[i - 1] if i else torch.tensor(1.0)
            e = model(x, torch.full((n,), float(i)))
            x0 = (x - (1 - a).sqrt() * e) / a.sqrt()
            x = before.sqrt() * x0 + (1 - before).sqrt() * e
        return x


def rings(n):
    angle = torch.rand(n) * 6.2832
    radius = torch.where(torch.rand(n) < 0.5, 0.6, 1.4) + 0.05 * torch.randn(n)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


torch.manual_seed(21)
model, diffusion = Denoiser(), Diffusion()
ema = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for step in range(150):
    optimizer.zero_grad()
    loss = diffusion.loss(model, rings(128))
    loss.backward()
    optimizer.step()
    ema.update_parameters(model)
    if step % 50 == 49:
        print(step + 1, f"{loss.item():.4f}", f"{diffusion.sample(ema, 200).norm(dim=1).mean():.3f}")
