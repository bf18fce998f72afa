# expect: missing-detach @ d_loss.backward()
import torch
from torch import nn

torch.manual_seed(3)
gen = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
dis = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
opt_g = torch.optim.Adam(gen.parameters(), lr=1e-3)
opt_d = torch.optim.Adam(dis.parameters(), lr=1e-3)
bce = nn.BCEWithLogitsLoss()
for it in range(30):
    real = torch.randn(32, 2) + 2
    opt_d.zero_grad()
    fake = gen(torch.randn(32, 4))
    d_loss = bce(dis(real), torch.ones(32, 1)) + bce(dis(fake), torch.zeros(32, 1))
    d_loss.backward()
    opt_d.step()
    opt_g.zero_grad()
    g_loss = bce(dis(gen(torch.randn(32, 4))), torch.ones(32, 1))
    g_loss.backward()
    opt_g.step()
