# expect: nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
enc = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 16))
opt = torch.optim.Adam(enc.parameters(), lr=1e-3)
for it in range(30):
    x = torch.randn(32, 10)
    a, b = enc(x + 0.1 * torch.randn_like(x)), enc(x + 0.1 * torch.randn_like(x))
    loss = F.mse_loss(a, b) + F.relu(1 - a.std(0)).mean() + F.relu(1 - b.std(0)).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
