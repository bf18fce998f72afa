# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
dropout = nn.Dropout(0.5)
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), dropout, nn.Linear(32, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(4):
    model.eval()
    model.train()
    for index in torch.randperm(192).split(32):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[index]), y[index]).backward()
        optimizer.step()
    model.eval()
    dropout.train()  # the spread of several passes is what is measured
    with torch.no_grad():
        spread = torch.stack([model(x[192:]).softmax(1) for _ in range(5)]).std(0)
    print(spread.mean().item())
