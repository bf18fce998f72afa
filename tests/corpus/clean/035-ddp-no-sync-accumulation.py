import contextlib
import tempfile
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP

ACCUM = 4


def main(rank, world, path):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    torch.manual_seed(0)
    model = DDP(nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1)))
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    g = torch.Generator().manual_seed(rank + 1)
    for step in range(30):
        for micro in range(ACCUM):
            last = micro == ACCUM - 1
            with contextlib.nullcontext() if last else model.no_sync():
                x = torch.randn(16, 8, generator=g)
                loss = nn.functional.mse_loss(model(x), x.mean(1, keepdim=True).sin()) / ACCUM
                loss.backward()
        opt.step()
        opt.zero_grad()
        if rank == 0 and step % 10 == 9:
            print(step + 1, f"{loss.item() * ACCUM:.5f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as tmp:
        mp.spawn(main, args=(2, tmp + "/s"), nprocs=2)
