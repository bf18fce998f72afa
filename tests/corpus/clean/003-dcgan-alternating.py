import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(3)
imgs = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1


def weights_init(m):
    if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(m.weight, 0.0, 0.05)


netG = nn.Sequential(nn.ConvTranspose2d(10, 32, 2, 1, 0), nn.BatchNorm2d(32), nn.ReLU(True),
                     nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.ReLU(True),
                     nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Tanh())
netD = nn.Sequential(nn.Conv2d(1, 16, 4, 2, 1), nn.LeakyReLU(0.2, True), nn.Conv2d(16, 32, 4, 2, 1),
                     nn.LeakyReLU(0.2, True), nn.Conv2d(32, 1, 2), nn.Flatten(0))
netG.apply(weights_init)
netD.apply(weights_init)
criterion = nn.BCEWithLogitsLoss()
optD = torch.optim.Adam(netD.parameters(), 2e-3, betas=(0.5, 0.999))
optG = torch.optim.Adam(netG.parameters(), 2e-3, betas=(0.5, 0.999))
fixed = torch.randn(16, 10, 1, 1)

for it in range(61):
    netD.zero_grad()
    real = imgs[torch.randint(len(imgs), (32,))]
    ones, zeros = torch.ones(32), torch.zeros(32)
    lossD_real = criterion(netD(real), ones)
    lossD_real.backward()
    fake = netG(torch.randn(32, 10, 1, 1))
    lossD_fake = criterion(netD(fake.detach()), zeros)
    lossD_fake.backward()
    optD.step()

    netG.zero_grad()
    lossG = criterion(netD(fake), ones)
    lossG.backward()
    optG.step()
    if it % 20 == 0:
        with torch.no_grad():
            s = netG(fixed).std().item()       # samples are drawn in train mode, as in the DCGAN tutorial
        print(f"{it} D {lossD_real.item() + lossD_fake.item():.3f} G {lossG.item():.3f} std {s:.3f}")
