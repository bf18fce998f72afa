# expect: clip-misplaced @ clip_grad_norm_(
# says: within a window of several passes, not at its end
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(40):
    x = torch.randn(16, 4)
    loss = nn.functional.mse_loss(model(x), 3 * x.sum(1, keepdim=True)) / 4
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    if step % 4 == 3:
        optimizer.step()
        optimizer.zero_grad()
