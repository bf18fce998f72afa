import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader


class Gen(nn.Module):
    def __init__(self, nz=10):
        super().__init__()
        self.nz = nz
        self.project = nn.Linear(nz, 16 * 2 * 2)
        self.up = nn.Sequential(
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Tanh())

    def forward(self, z):
        return self.up(self.project(z).view(-1, 16, 2, 2))


class Disc(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1), nn.LeakyReLU(0.2))
        self.lin = nn.Linear(64, 1)

    def forward(self, x):
        return self.lin(self.conv(x).flatten(1))


torch.manual_seed(10)
imgs = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1
loader = DataLoader(imgs[:1024], batch_size=64, shuffle=True, drop_last=True)
gen, disc = Gen(), Disc()
opt_gen = torch.optim.Adam(gen.parameters(), lr=1e-3, betas=(0.5, 0.999))
opt_disc = torch.optim.Adam(disc.parameters(), lr=5e-4, betas=(0.5, 0.999))
adv = nn.BCEWithLogitsLoss()

for epoch in range(4):
    for real in loader:
        valid, fake_t = torch.ones(len(real), 1), torch.zeros(len(real), 1)

        # train discriminator
        gen_imgs = gen(torch.randn(len(real), gen.nz))
        opt_disc.zero_grad()
        real_loss = adv(disc(real), valid)
        fake_loss = adv(disc(gen_imgs.detach()), fake_t)
        d_loss = (real_loss + fake_loss) / 2
        d_loss.backward()
        opt_disc.step()

        # train generator
        opt_gen.zero_grad()
        gen_imgs = gen(torch.randn(len(real), gen.nz))
        g_loss = adv(disc(gen_imgs), valid)
        g_loss.backward()
        opt_gen.step()
    print(f"[epoch {epoch}] D {d_loss.item():.3f} G {g_loss.item():.3f}")
