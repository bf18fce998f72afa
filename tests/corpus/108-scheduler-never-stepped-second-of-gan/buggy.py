import torch
import torch.nn as nn
from torch.optim import Adam
from torch.optim.lr_scheduler import ExponentialLR

torch.manual_seed(19)
DATA_MEAN, DATA_STD, N = 4.0, 1.25, 64

G = nn.Sequential(nn.Linear(4, 16), nn.ELU(), nn.Linear(16, 16), nn.ELU(), nn.Linear(16, 1))
D = nn.Sequential(nn.Linear(1, 16), nn.LeakyReLU(0.2), nn.Linear(16, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
g_opt, d_opt = Adam(G.parameters(), lr=2e-3, betas=(0.5, 0.9)), Adam(D.parameters(), lr=2e-3, betas=(0.5, 0.9))
g_sched, d_sched = ExponentialLR(g_opt, 0.9), ExponentialLR(d_opt, 0.9)
bce = nn.BCEWithLogitsLoss()
ones, zeros = torch.ones(N, 1), torch.zeros(N, 1)

for epoch in range(6):
    for _ in range(25):
        real = DATA_MEAN + DATA_STD * torch.randn(N, 1)
        fake = G(torch.randn(N, 4))
        d_opt.zero_grad()
        d_loss = bce(D(real), ones) + bce(D(fake.detach()), zeros)
        d_loss.backward()
        d_opt.step()

        g_opt.zero_grad()
        g_loss = bce(D(fake), ones)
        g_loss.backward()
        g_opt.step()
    d_sched.step()
    d_sched.step()
    with torch.no_grad():
        s = G(torch.randn(500, 4))
    print(f"epoch {epoch} d {d_loss.item():.3f} g {g_loss.item():.3f} mean {s.mean():.2f} std {s.std():.2f}")
