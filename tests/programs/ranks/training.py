"""Two gloo processes train with DistributedDataParallel; the first argument names what is wrong."""
import os
import socket
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def worker(rank, world_size, port, mistake):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(256, 8)
    data = TensorDataset(x, (x[:, 0] > 0).long())
    sampler = DistributedSampler(data)
    if mistake == "ddp-duplicate-data":
        loader = DataLoader(data, batch_size=32, shuffle=True)
    else:
        loader = DataLoader(data, batch_size=32, sampler=sampler)
    model = DDP(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)))
    if mistake == "ranks-diverge":
        with torch.no_grad():
            for p in model.module.parameters():
                p.add_(0.1 * rank)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(3):
        if mistake != "ddp-missing-set-epoch":
            sampler.set_epoch(epoch)
        for inputs, labels in loader:
            optimizer.zero_grad()
            logits = model.module(inputs) if mistake == "ddp-bypassed" else model(inputs)
            nn.functional.cross_entropy(logits, labels).backward()
            optimizer.step()
    dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(worker, args=(2, port, sys.argv[1]), nprocs=2)
