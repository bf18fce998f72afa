# expect: accum-not-scaled @ loss.backward()
# says: each step adds up 4 batches
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 4)
y = x.sum(1, keepdim=True)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
for epoch in range(3):
    for index in torch.randperm(256).split(64):
        optimizer.zero_grad()
        for part in index.chunk(4):
            loss = nn.functional.mse_loss(model(x[part]), y[part])
            loss.backward()
        optimizer.step()
