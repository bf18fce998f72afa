# expect: nothing
# Numbers for the log are made one tensor of, from a list of losses: 0-d tensors are numbers there, no sequences.
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x, y = torch.randn(64, 4), torch.randn(64, 3)
for step in range(20):
    part = torch.randperm(64)[:16]
    losses = [(model(x[part])[:, i] - y[part, i]).square().mean() for i in range(3)]
    optimizer.zero_grad()
    sum(losses).backward()
    optimizer.step()
    with torch.no_grad():
        shown = torch.tensor([one.detach() for one in losses])
    if step % 10 == 0:
        print(step, shown.tolist())
