# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 1)
for factor in (lambda step: min(1.0, (step + 1) / 5), lambda step: 0.1**step, lambda step: 0.01):
    # the second is the learning rate itself after one step, the third all the time
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1 if factor(0) == 1 else 0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for step in range(20):
        x = torch.randn(16, 4)
        loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
