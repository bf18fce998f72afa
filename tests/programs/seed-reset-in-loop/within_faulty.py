# expect: seed-reset-in-loop @ torch.manual_seed(7)
# says: what was drawn until the next seed or step was the same
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.randn(64, 4)
for step in range(12):
    torch.manual_seed(7)
    noisy = x + 0.1 * torch.randn_like(x)
    loss = nn.functional.mse_loss(model(noisy), x.sum(1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
