import math
import torch
import torch.nn as nn

torch.manual_seed(99)
device = torch.device("cpu")


def sample_ring(n, modes=6):
    k = torch.randint(0, modes, (n,)).float()
    ang = 2 * math.pi * k / modes
    centre = torch.stack([ang.cos(), ang.sin()], 1)
    return (centre + 0.05 * torch.randn(n, 2)).to(device)


class Generator(nn.Module):
    def __init__(self, z=8, h=48):
        super().__init__()
        self.z = z
        self.main = nn.Sequential(nn.Linear(z, h), nn.ReLU(True), nn.Linear(h, h), nn.ReLU(True), nn.Linear(h, 2))

    def forward(self, n):
        return self.main(torch.randn(n, self.z, device=device))


class Discriminator(nn.Module):
    def __init__(self, h=48):
        super().__init__()
        self.main = nn.Sequential(nn.Linear(2, h), nn.LeakyReLU(0.2, True), nn.Linear(h, h),
                                  nn.LeakyReLU(0.2, True), nn.Linear(h, 1))

    def forward(self, x):
        return self.main(x).squeeze(1)


netG, netD = Generator().to(device), Discriminator().to(device)
criterion = nn.BCEWithLogitsLoss()
optimizerD = torch.optim.Adam(netD.parameters(), lr=2e-3, betas=(0.5, 0.999))
optimizerG = torch.optim.Adam(netG.parameters(), lr=1e-3, betas=(0.5, 0.999))
real_label, fake_label, bs = 1.0, 0.0, 64

for it in range(301):
    ############################
    # (1) Update D network: maximize log(D(x)) + log(1 - D(G(z)))
    ###########################
    netD.zero_grad()
    real = sample_ring(bs)
    label = torch.full((bs,), real_label, device=device)
    errD_real = criterion(netD(real), label)
    errD_real.backward()
    fake = netG(bs)
    label = torch.full((bs,), fake_label, device=device)
    errD_fake = criterion(netD(fake.detach()), label)
    errD_fake.backward()
    optimizerD.step()

    ############################
    # (2) Update G network: maximize log(D(G(z)))
    ###########################
    label = torch.full((bs,), real_label, device=device)
    errG = criterion(netD(fake), label)
    errG.backward()
    optimizerG.step()

    if it % 100 == 0:
        with torch.no_grad():
            r = netG(500).norm(dim=1)
        print(f"[{it}] Loss_D {errD_real.item() + errD_fake.item():.3f} Loss_G {errG.item():.3f} radius {r.mean():.3f}")
