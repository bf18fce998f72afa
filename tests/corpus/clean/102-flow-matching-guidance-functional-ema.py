"""Rectified flow with dropped labels for guidance; the average is a dict of tensors that functional_call samples with."""
import torch
from torch import nn
from torch.func import functional_call


class Velocity(nn.Module):
    NOTHING = 4

    def __init__(self, h=64):
        super().__init__()
        self.label = nn.Embedding(5, h)
        self.inp = nn.Linear(3, h)
        self.layers = nn.ModuleList(nn.Linear(h, h) for _ in range(2))
        self.adaptive = nn.ModuleList(nn.Linear(h, 2 * h) for _ in range(2))
        self.out = nn.Linear(h, 2)
        for layer in (*self.adaptive, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x, t, label):
        c = self.label(label)
        h = self.inp(torch.cat([x, t[:, None]], -1))
        for layer, adaptive in zip(self.layers, self.adaptive):
            scale, shift = adaptive(nn.functional.silu(c)).chunk(2, -1)
            h = h + nn.functional.silu(layer(h) * (1 + scale) + shift)
        return self.out(h)


def corners(n):
    label = torch.randint(4, (n,))
    centre = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    return centre[label] + 0.1 * torch.randn(n, 2), label


@torch.inference_mode()
def sample(model, average, label, guidance=2.0, steps=12):
    x = torch.randn(len(label), 2)
    nothing = torch.full_like(label, model.NOTHING)
    for i in range(steps):
        t = torch.full((len(label),), i / steps)
        with_label = functional_call(model, average, (x, t, label))
        without = functional_call(model, average, (x, t, nothing))
        x = x + (without + guidance * (with_label - without)) / steps
    return x


torch.manual_seed(8)
model = Velocity()
average = {k: v.detach().clone() for k, v in model.named_parameters()}
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)
for step in range(150):
    x1, label = corners(96)
    x0, t = torch.randn_like(x1), torch.randn(len(x1)).sigmoid()
    label = label.where(torch.rand(len(label)) > 0.15, torch.tensor(model.NOTHING))
    xt = torch.lerp(x0, x1, t[:, None])
    error = model(xt, t, label) - (x1 - x0)
    loss = error.square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        live = [p.detach() for p in model.parameters()]
        torch._foreach_lerp_(list(average.values()), live, 1 - min(0.98, (step + 1) / (step + 10)))
    if step % 50 == 49:
        print(step + 1, f"{loss.item():.3f}", sample(model, average, torch.arange(4)).sign().tolist())
