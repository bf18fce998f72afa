# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 1)
noisy = nn.Sequential(nn.Dropout(0.5), model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(12):  # several samples of a model that draws, for one batch
    x = torch.randn(16, 4)
    optimizer.zero_grad()
    for sample in range(3):
        loss = nn.functional.mse_loss(noisy(x), x.sum(1, keepdim=True)) / 3
        loss.backward()
    optimizer.step()
for step in range(12):  # a step after each
    x = torch.randn(16, 4)
    for repeat in range(3):
        loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
for step in range(12):  # a margin that all batches keep: a loss of nothing
    optimizer.zero_grad()
    for micro in range(2):
        x = torch.randn(16, 4)
        loss = nn.functional.relu(0 * model(x) - 1).mean()
        loss.backward()
    optimizer.step()
