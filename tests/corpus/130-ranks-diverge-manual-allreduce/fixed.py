import tempfile

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F


def average_gradients(model):
    size = float(dist.get_world_size())
    for param in model.parameters():
        dist.all_reduce(param.grad, op=dist.ReduceOp.SUM)
        param.grad /= size


class Partition:
    def __init__(self, rank, size):
        g = torch.Generator().manual_seed(0)
        x = torch.randn(600, 10, generator=g)
        y = (x[:, 0] * x[:, 1] > 0).long()
        self.x, self.y = x[rank::size], y[rank::size]

    def epoch(self, bs):
        for i in torch.randperm(len(self.x)).split(bs):
            yield self.x[i], self.y[i]


def run(rank, size, store):
    dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=size)
    torch.manual_seed(1234 + rank)          # different data order on every rank
    data = Partition(rank, size)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))
    for p in model.parameters():
        dist.broadcast(p.data, src=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    for epoch in range(5):
        epoch_loss, n = 0.0, 0
        for x, y in data.epoch(30):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            epoch_loss, n = epoch_loss + loss.item(), n + 1
            loss.backward()
            average_gradients(model)
            optimizer.step()
        print(f"Rank {rank}, epoch {epoch}: {epoch_loss / n:.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as tmp:
        torch.multiprocessing.spawn(run, args=(2, tmp + "/rdzv"), nprocs=2)
