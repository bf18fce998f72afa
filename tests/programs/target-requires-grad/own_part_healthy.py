# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
predictor = nn.Linear(8, 8)
optimizer = torch.optim.Adam([*encoder.parameters(), *predictor.parameters()], lr=0.01)
for step in range(20):
    x = torch.randn(32, 8)
    now, later = encoder(x), encoder(torch.roll(x, 1, 1))
    loss = nn.functional.smooth_l1_loss(predictor(now), later.detach())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
