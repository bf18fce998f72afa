import tempfile
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def make(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 10, generator=g)
    return TensorDataset(x, (x[:, :5].sum(1) > x[:, 5:].prod(1)).long())


def main(rank, world, path):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    torch.manual_seed(33)
    train, val = make(512, 0), make(128, 1)
    sampler = DistributedSampler(train)
    loader = DataLoader(train, batch_size=32, sampler=sampler)
    ddp = DDP(nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2)))
    opt = torch.optim.AdamW(ddp.parameters(), lr=5e-3)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        ddp.train()
        for x, y in loader:
            loss = nn.functional.cross_entropy(ddp(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        if rank == 0:                     # evaluation on one rank goes through the plain module
            net = ddp.module.eval()
            with torch.no_grad():
                x, y = val.tensors
                print(epoch, (net(x).argmax(1) == y).float().mean().item())
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as tmp:
        mp.spawn(main, args=(2, tmp + "/rdzv"), nprocs=2)
