# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
enc = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 8))
opt = torch.optim.Adam(enc.parameters(), lr=1e-3)
margin = nn.TripletMarginLoss()
for it in range(30):
    a = torch.randn(16, 10)
    loss = margin(enc(a), enc(a + 0.1), enc(torch.randn(16, 10)))
    opt.zero_grad()
    loss.backward()
    opt.step()
