import copy
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(85)
d = load_digits()
x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
initial = copy.deepcopy(net.state_dict())
masks = {n: torch.ones_like(p) for n, p in net.named_parameters() if p.dim() > 1}
for round_ in range(3):
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for i in torch.randperm(1500).split(25):
        loss = F.cross_entropy(net(x[i]), y[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
        with torch.no_grad():
            for n, p in net.named_parameters():
                if n in masks:
                    p.mul_(masks[n])
    with torch.no_grad():
        acc = (net(x[1500:]).argmax(1) == y[1500:]).float().mean().item()
        for n, p in net.named_parameters():
            if n in masks:
                k = int(masks[n].sum().item() * 0.5)
                cut = p.abs()[masks[n] > 0].kthvalue(k).values
                masks[n] *= (p.abs() > cut).float()
    print(round_, round(acc, 3), "left", int(sum(m.sum() for m in masks.values())))
    net.load_state_dict(initial)
    with torch.no_grad():
        for n, p in net.named_parameters():
            if n in masks:
                p.mul_(masks[n])
