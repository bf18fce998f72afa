import os
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import DistributedSampler


class Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, x):
        return self.net(x).squeeze(-1)


def make_dataset():
    g = torch.Generator().manual_seed(7)
    x = torch.randn(512, 5, generator=g)
    return TensorDataset(x, torch.sin(x[:, 0]) + x[:, 1] * x[:, 2] / 2)


def main(rank, world_size, init):
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=world_size)
    torch.manual_seed(42)
    dataset = make_dataset()
    sampler = DistributedSampler(dataset, seed=42)
    loader = DataLoader(dataset, batch_size=32, sampler=sampler)
    model = DDP(Regressor())
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(4):
        sampler.set_epoch(epoch)
        total = 0.0
        for x, y in loader:
            loss = nn.functional.mse_loss(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item()
        if rank == 0:
            print(f"epoch {epoch}: {total / len(loader):.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    folder = tempfile.mkdtemp()
    mp.spawn(main, args=(2, "file://" + os.path.join(folder, "init")), nprocs=2)
