# expect: lr-lambda-absolute @ LambdaLR(
# says: the largest factor in 20 steps was 0.01
import torch
from torch import nn

torch.manual_seed(0)
LR = 0.01
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=LR)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: LR * min(1.0, (step + 1) / 5))
for step in range(20):
    x = torch.randn(16, 4)
    loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
