# expect: eval-in-train-mode @ model(x[part])
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)


def in_eval_mode(function):
    def wrapped(*args):
        model.eval()
        with torch.no_grad():
            result = function(*args)
        model.train()
        return result

    return wrapped


@in_eval_mode
def outputs(index):
    for part in index.split(64):
        yield model(x[part])


for epoch in range(4):
    for index in torch.randperm(192).split(32):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[index]), y[index]).backward()
        optimizer.step()
    right = torch.cat(list(outputs(torch.arange(192, 256)))).argmax(1) == y[192:]
    print(right.float().mean().item())
