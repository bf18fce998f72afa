# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
model[0].requires_grad_(False)
optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
for step in range(12):
    x = torch.randn(16, 4)
    loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    for part in model:  # the frozen part, and the one without weights, have none to clip
        nn.utils.clip_grad_norm_(filter(lambda p: p.requires_grad, part.parameters()), 0.1)
    optimizer.step()
