# expect: nothing
# The pretrained network is trained without dropout, and says so at each epoch's start.
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
criterion = nn.CrossEntropyLoss()


def measure():
    model.eval()
    with torch.no_grad():
        return criterion(model(x[200:]), y[200:]).item()


print(measure())
for _ in range(4):
    model.eval()
    for part in torch.randperm(200).split(32):
        optimizer.zero_grad()
        loss = criterion(model(x[part]), y[part])
        loss.backward()
        optimizer.step()
    print(measure())
