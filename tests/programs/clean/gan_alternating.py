# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
gen = nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
dis = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Dropout(0.2), nn.Linear(32, 1))
opt_g = torch.optim.Adam(gen.parameters(), lr=1e-3)
opt_d = torch.optim.Adam(dis.parameters(), lr=1e-3)
bce = nn.BCEWithLogitsLoss()
fixed = torch.randn(16, 4)
for it in range(60):
    for p in dis.parameters():
        p.requires_grad_(True)
    for _ in range(2):
        with torch.no_grad():
            fake = gen(torch.randn(32, 4))
        opt_d.zero_grad()
        loss = bce(dis(torch.randn(32, 2) + 2), torch.ones(32, 1)) + bce(dis(fake), torch.zeros(32, 1))
        loss.backward()
        opt_d.step()
    for p in dis.parameters():
        p.requires_grad_(False)
    opt_g.zero_grad()
    bce(dis(gen(torch.randn(32, 4))), torch.ones(32, 1)).backward()
    opt_g.step()
    if it % 20 == 0:
        with torch.no_grad():
            sample = gen(fixed)
        print(sample.mean().item())
