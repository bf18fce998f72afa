# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
net_g = nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
net_d = nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.LeakyReLU(0.2), nn.Linear(32, 1), nn.Sigmoid())
opt_g = torch.optim.Adam(net_g.parameters(), lr=1e-3)
opt_d = torch.optim.Adam(net_d.parameters(), lr=1e-3)
bce = nn.BCELoss()
fixed = torch.randn(16, 4)
images = []
for it in range(40):
    net_d.zero_grad()
    real = torch.randn(32, 2) + 2
    err_real = bce(net_d(real).view(-1), torch.full((32,), 1.0))
    err_real.backward()
    fake = net_g(torch.randn(32, 4))
    err_fake = bce(net_d(fake.detach()).view(-1), torch.full((32,), 0.0))
    err_fake.backward()
    opt_d.step()
    net_g.zero_grad()
    err_g = bce(net_d(fake).view(-1), torch.full((32,), 1.0))
    err_g.backward()
    opt_g.step()
    if it % 10 == 0:
        print(err_g.item(), (err_real + err_fake).item())
        with torch.no_grad():
            images.append(net_g(fixed).detach().cpu())
