# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
layers = [nn.Linear(10, 32), nn.Linear(32, 32)]
optimizers = [torch.optim.Adam(layer.parameters(), lr=1e-2) for layer in layers]
for it in range(30):
    pos, neg = torch.randn(32, 10) + 1, torch.randn(32, 10) - 1
    for layer, opt in zip(layers, optimizers):
        good, bad = layer(pos).relu(), layer(neg).relu()
        loss = torch.log1p(torch.exp(torch.cat([2 - good.pow(2).mean(1), bad.pow(2).mean(1) - 2]))).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        pos, neg = good.detach(), bad.detach()
