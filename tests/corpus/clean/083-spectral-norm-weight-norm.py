import torch
import torch.nn as nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

torch.manual_seed(83)
G = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), weight_norm(nn.Linear(32, 2)))
D = nn.Sequential(spectral_norm(nn.Linear(2, 32)), nn.LeakyReLU(0.2), spectral_norm(nn.Linear(32, 1)))
og, od = torch.optim.Adam(G.parameters(), 2e-3, (0.0, 0.9)), torch.optim.Adam(D.parameters(), 2e-3, (0.0, 0.9))
for it in range(1, 101):
    real = torch.randn(64, 2) @ torch.tensor([[1.0, 0.8], [0.0, 0.3]])
    fake = G(torch.randn(64, 2))
    d_loss = torch.relu(1 - D(real)).mean() + torch.relu(1 + D(fake.detach())).mean()
    od.zero_grad(); d_loss.backward(); od.step()
    g_loss = -D(G(torch.randn(64, 2))).mean()
    og.zero_grad(); g_loss.backward(); og.step()
    if it % 25 == 0:
        print(it, round(d_loss.item(), 3), round(g_loss.item(), 3))
