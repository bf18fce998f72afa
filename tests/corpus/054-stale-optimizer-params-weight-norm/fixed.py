import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

torch.manual_seed(73)


class Generator1D(nn.Module):
    """neural field for a 1-d signal"""

    def __init__(self, width=40):
        super().__init__()
        self.l0 = nn.Linear(16, width)
        self.l1 = nn.Linear(width, width)
        self.l2 = nn.Linear(width, 1)
        self.register_buffer("bands", torch.arange(1, 9).float() * 3.14159)

    def forward(self, t):
        a = t * self.bands
        h = torch.cat([a.sin(), a.cos()], -1)
        h = torch.relu(self.l0(h))
        h = torch.relu(self.l1(h))
        return self.l2(h)


def signal(t):
    return torch.sin(5 * t) * torch.exp(-t) + 0.3 * (t > 0.2).float()


field = Generator1D()
for lin in (field.l0, field.l1, field.l2):
    weight_norm(lin)
optimizer = torch.optim.Adam(field.parameters(), lr=5e-3)

grid = torch.linspace(-1, 1, 400).unsqueeze(1)
for it in range(201):
    t = torch.rand(128, 1) * 2 - 1
    loss = (field(t) - signal(t)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if it % 50 == 0:
        with torch.no_grad():
            psnr = -10 * torch.log10((field(grid) - signal(grid)).square().mean())
        print(f"iter {it:4d} loss {loss.item():.5f} psnr {psnr.item():.2f} dB")
