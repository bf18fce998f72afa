import tempfile
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
from torch.nn.parallel import DistributedDataParallel as DDP


class TwoTasks(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 24), nn.ReLU())
        self.heads = nn.ModuleDict({"sum": nn.Linear(24, 1), "max": nn.Linear(24, 1)})

    def forward(self, x, task):
        return self.heads[task](self.body(x)).squeeze(-1)


def worker(rank, world, store):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    torch.manual_seed(0)
    model = DDP(TwoTasks(), find_unused_parameters=True)
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    g = torch.Generator().manual_seed(100 + rank)
    for step in range(60):
        x = torch.randn(32, 6, generator=g)
        task = "sum" if step % 2 == 0 else "max"
        y = x.sum(1) if task == "sum" else x.amax(1)
        loss = nn.functional.mse_loss(model(x, task), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        if rank == 0 and step % 20 >= 18:
            print(step, task, round(loss.item(), 4))
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as tmp:
        mp.spawn(worker, args=(2, tmp + "/store"), nprocs=2)
