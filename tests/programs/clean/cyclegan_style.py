# expect: nothing
import itertools

import torch
from torch import nn

torch.manual_seed(0)
g_ab, g_ba = nn.Linear(2, 2), nn.Linear(2, 2)
d_a, d_b = (nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)) for _ in range(2))
opt_g = torch.optim.Adam(itertools.chain(g_ab.parameters(), g_ba.parameters()), lr=1e-3)
opt_da, opt_db = torch.optim.Adam(d_a.parameters(), lr=1e-3), torch.optim.Adam(d_b.parameters(), lr=1e-3)
mse, l1 = nn.MSELoss(), nn.L1Loss()
for it in range(30):
    a, b = torch.randn(32, 2), torch.randn(32, 2) + 3
    one, zero = torch.ones(32, 1), torch.zeros(32, 1)
    opt_g.zero_grad()
    fake_b, fake_a = g_ab(a), g_ba(b)
    loss = mse(d_b(fake_b), one) + mse(d_a(fake_a), one) + 10 * (l1(g_ba(fake_b), a) + l1(g_ab(fake_a), b))
    loss.backward()
    opt_g.step()
    opt_da.zero_grad()
    ((mse(d_a(a), one) + mse(d_a(fake_a.detach()), zero)) / 2).backward()
    opt_da.step()
    opt_db.zero_grad()
    ((mse(d_b(b), one) + mse(d_b(fake_b.detach()), zero)) / 2).backward()
    opt_db.step()
