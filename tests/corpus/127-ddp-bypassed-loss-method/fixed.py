import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


class ContrastiveLM(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, d))

    def training_loss(self, a, b):
        za, zb = F.normalize(self.enc(a), dim=1), F.normalize(self.enc(b), dim=1)
        return F.cross_entropy(za @ zb.T / 0.2, torch.arange(len(a)))

    def forward(self, a, b=None):
        return self.training_loss(a, b) if b is not None else self.enc(a)


def worker(rank, world, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    torch.manual_seed(0)
    base = torch.randn(256, 8)
    ds = TensorDataset(base, base + 0.1 * torch.randn(256, 8))
    sampler = DistributedSampler(ds, world, rank, shuffle=True)
    loader = DataLoader(ds, batch_size=32, sampler=sampler)
    ddp = DDP(ContrastiveLM())
    opt = torch.optim.Adam(ddp.parameters(), lr=3e-3)
    for epoch in range(4):
        sampler.set_epoch(epoch)
        for a, b in loader:
            loss = ddp(a, b)
            opt.zero_grad()
            loss.backward()
            opt.step()
        if rank == 0:
            print(f"epoch {epoch} loss {loss.item():.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(worker, args=(2, port), nprocs=2)
