import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class Gen(nn.Module):
    def __init__(self, z=16):
        super().__init__()
        self.z = z
        self.fc = nn.Linear(z, 32 * 4)
        self.up = nn.ConvTranspose2d(32, 16, 4, 2, 1)
        self.out = nn.ConvTranspose2d(16, 1, 4, 2, 1)

    def forward(self, z):
        h = F.relu(self.fc(z)).view(-1, 32, 2, 2)
        return torch.tanh(self.out(F.relu(self.up(h))))


class Disc(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 32, 4, 2, 1),
                                 nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(32 * 4, 1))

    def forward(self, img):
        return torch.sigmoid(self.net(img))


def bce(logits, value):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, value))


torch.manual_seed(30)
real_images = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1
G, D = Gen(), Disc()
opt_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.99))
opt_d = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.99))
for step in range(121):
    real = real_images[torch.randint(len(real_images), (32,))]
    fake = G(torch.randn(32, G.z))
    d_loss = bce(D(real), 1.0) + bce(D(fake.detach()), 0.0)
    opt_d.zero_grad()
    d_loss.backward()
    opt_d.step()
    g_loss = bce(D(fake), 1.0)
    opt_g.zero_grad()
    g_loss.backward()
    opt_g.step()
    if step % 40 == 0:
        print(f"step {step} d {d_loss.item():.3f} g {g_loss.item():.3f}")
