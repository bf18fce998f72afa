# expect: nothing
"""A batch sampler around another one, without a sampler of its own, as libraries share batches out to ranks."""
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset


class EverySecond(BatchSampler):
    def __init__(self, batches):
        self.batch_sampler = batches
        self.batch_size = batches.batch_size
        self.drop_last = batches.drop_last

    def __len__(self):
        return len(self.batch_sampler) // 2

    def __iter__(self):
        for number, batch in enumerate(self.batch_sampler):
            if number % 2:
                yield batch


torch.manual_seed(0)
x = torch.randn(256, 10)
data = TensorDataset(x, (x[:, 0] > 0).long())
loader = DataLoader(data, batch_sampler=EverySecond(BatchSampler(RandomSampler(data), 16, drop_last=True)))
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(3):
    for inputs, labels in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
