# expect: clip-misplaced @ clip_grad_norm_(
# says: an iterator that has nothing left
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
model[0].requires_grad_(False)
trained = filter(lambda p: p.requires_grad, model.parameters())
optimizer = torch.optim.SGD(trained, lr=0.1)
for step in range(12):
    x = torch.randn(16, 4)
    loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(trained, 0.1)
    optimizer.step()
