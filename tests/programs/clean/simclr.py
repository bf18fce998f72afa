# expect: nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
enc = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16))
opt = torch.optim.Adam(enc.parameters(), lr=1e-3)
for it in range(30):
    x = torch.randn(32, 10)
    z = F.normalize(enc(torch.cat([x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)])), dim=1)
    sim = z @ z.T / 0.5
    sim.fill_diagonal_(-1e9)
    labels = torch.cat([torch.arange(32, 64), torch.arange(32)])
    loss = F.cross_entropy(sim, labels)
    opt.zero_grad()
    loss.backward()
    opt.step()
