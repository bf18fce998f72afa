# expect: loss-backpropagated-twice @ loss.backward()
# says: one and the same batch went through the model each time
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(12):
    x = torch.randn(16, 4)
    optimizer.zero_grad()
    for micro in range(3):
        loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)) / 3
        loss.backward()
    optimizer.step()
