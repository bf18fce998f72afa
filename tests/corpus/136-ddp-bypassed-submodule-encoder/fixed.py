import tempfile
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
from torch.nn.parallel import DistributedDataParallel as DDP


class Task:
    def __init__(self, model):
        self.model = model

    def loss(self, x):
        y = (x[:, :1] - x[:, 1:2]).abs()
        return nn.functional.mse_loss(self.model(x), y)


def main(rank, world, path):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))
    model = DDP(net)
    task = Task(model)
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    g = torch.Generator().manual_seed(rank)
    for step in range(60):
        loss = task.loss(torch.randn(32, 4, generator=g))
        opt.zero_grad()
        loss.backward()
        opt.step()
        if rank == 0 and step % 20 == 19:
            print(step + 1, round(loss.item(), 4))
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as tmp:
        mp.spawn(main, args=(2, tmp + "/store"), nprocs=2)
