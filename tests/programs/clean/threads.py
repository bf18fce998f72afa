# expect: nothing
import threading

import torch
from torch import nn


def work(seed):
    g = torch.Generator().manual_seed(seed)
    net = nn.Linear(4, 1)
    opt = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(25):
        x = torch.randn(16, 4, generator=g)
        opt.zero_grad()
        nn.functional.mse_loss(net(x), x.sum(1, keepdim=True)).backward()
        opt.step()


threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
for t in threads:
    t.start()
for t in threads:
    t.join()
