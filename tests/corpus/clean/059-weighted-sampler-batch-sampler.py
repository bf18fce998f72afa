import torch
import torch.nn as nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset, WeightedRandomSampler

torch.manual_seed(59)
y = (torch.arange(600) < 60).long()                # sorted and unbalanced
x = torch.randn(600, 4) + 1.5 * y[:, None]
ds = TensorDataset(x, y)
weights = 1.0 / torch.bincount(y).double()[y]
balanced = DataLoader(ds, batch_size=30, sampler=WeightedRandomSampler(weights, 600))
batched = DataLoader(ds, sampler=BatchSampler(RandomSampler(ds), 30, drop_last=False), batch_size=None)
net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(4):
    for xb, yb in (balanced if epoch % 2 == 0 else batched):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(xb), yb)
        loss.backward()
        opt.step()
    print(epoch, round(loss.item(), 4), "positives in the last batch", int(yb.sum()))
