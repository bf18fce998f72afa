import copy
import math
import torch
import torch.nn as nn
from sklearn.datasets import make_moons

torch.manual_seed(61)
X, y = make_moons(400, noise=0.2, random_state=1)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
net = nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 2))
ce = nn.CrossEntropyLoss()


def find_lr(net, lo=1e-4, hi=3.0, n=40):
    backup = copy.deepcopy(net.state_dict())
    opt = torch.optim.SGD(net.parameters(), lr=lo)
    lrs, losses = [], []
    for k in range(n):
        for g in opt.param_groups:
            g["lr"] = lo * (hi / lo) ** (k / (n - 1))
        i = torch.randint(0, 400, (64,))
        opt.zero_grad()
        loss = ce(net(X[i]), y[i])
        loss.backward()
        opt.step()
        lrs.append(opt.param_groups[0]["lr"])
        losses.append(loss.item())
        if not math.isfinite(losses[-1]) or losses[-1] > 4 * min(losses):
            break
    net.load_state_dict(backup)
    return lrs[losses.index(min(losses))] / 3


lr = find_lr(net)
print("suggested lr", round(lr, 4))
opt = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
for epoch in range(6):
    for i in torch.randperm(400).split(40):
        opt.zero_grad()
        loss = ce(net(X[i]), y[i])
        loss.backward()
        opt.step()
print("final loss", round(loss.item(), 4))
