import copy
import torch
import torch.nn as nn

torch.manual_seed(41)
T = 50
betas = torch.linspace(1e-4, 0.1, T)
alphas_bar = torch.cumprod(1 - betas, 0)


class Denoiser(nn.Module):
    def __init__(self, h=64):
        super().__init__()
        self.t = nn.Embedding(T, 16)
        self.net = nn.Sequential(nn.Linear(18, h), nn.SiLU(), nn.Linear(h, h), nn.SiLU(), nn.Linear(h, 2))

    def forward(self, x, t):
        return self.net(torch.cat([x, self.t(t)], 1))


def data(n):
    a = torch.rand(n) * 6.2832
    return torch.stack([a.cos(), a.sin()], 1)


model = Denoiser()
ema = copy.deepcopy(model)
opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
for it in range(1, 201):
    x0, t, eps = data(128), torch.randint(0, T, (128,)), torch.randn(128, 2)
    ab = alphas_bar[t, None]
    xt = ab.sqrt() * x0 + (1 - ab).sqrt() * eps
    loss = (model(xt, t) - eps).square().mean()
    opt.zero_grad(set_to_none=True)
    loss.backward()
    opt.step()
    with torch.no_grad():
        for e, p in zip(ema.parameters(), model.parameters()):
            e.mul_(0.98).add_(p, alpha=0.02)
    if it % 50 == 0:
        print(it, f"{loss.item():.4f}")


@torch.no_grad()
def sample(n):
    x = torch.randn(n, 2)
    for t in reversed(range(T)):
        e = ema(x, torch.full((n,), t))
        x = (x - betas[t] / (1 - alphas_bar[t]).sqrt() * e) / (1 - betas[t]).sqrt()
        if t:
            x = x + betas[t].sqrt() * torch.randn_like(x)
    return x


print("radius of samples", round(sample(200).norm(dim=1).mean().item(), 3))
