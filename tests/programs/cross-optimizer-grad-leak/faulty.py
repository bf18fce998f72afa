# expect: cross-optimizer-grad-leak @ opt_d.step()
import torch
from torch import nn

torch.manual_seed(3)
gen = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
dis = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
opt_g = torch.optim.Adam(gen.parameters(), lr=1e-3)
opt_d = torch.optim.Adam(dis.parameters(), lr=1e-3)
bce = nn.BCEWithLogitsLoss()
for it in range(30):
    opt_d.zero_grad()
    opt_g.zero_grad()
    fake = gen(torch.randn(32, 4))
    g_loss = bce(dis(fake), torch.ones(32, 1))
    g_loss.backward()
    opt_g.step()
    real = torch.randn(32, 2) + 2
    d_loss = bce(dis(real), torch.ones(32, 1)) + bce(dis(fake.detach()), torch.zeros(32, 1))
    d_loss.backward()
    opt_d.step()
