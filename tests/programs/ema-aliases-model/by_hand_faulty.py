# expect: ema-aliases-model @ kept.mul_(0.9)
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
average = {name: value for name, value in zip("abcd", (p.data for p in model.parameters()))}
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(20):
    x = torch.randn(32, 4)
    loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    for kept, p in zip(average.values(), model.parameters()):
        kept.mul_(0.9).add_(p.data, alpha=0.1)
print(sum(float(kept.norm()) for kept in average.values()))
