import tempfile
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn


def run(rank, world, path):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    torch.manual_seed(rank)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    for p in model.parameters():
        dist.broadcast(p.data, 0)
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(80):
        x = torch.randn(32, 4)
        loss = nn.functional.mse_loss(model(x), (x ** 2).sum(1, keepdim=True) / 4)
        opt.zero_grad()
        loss.backward()
        for p in model.parameters():
            dist.all_reduce(p.grad)
            p.grad.div_(world)
        opt.step()
    check = torch.cat([p.detach().flatten() for p in model.parameters()])
    other = check.clone()
    dist.broadcast(other, 0)
    print(f"rank {rank} loss {loss.item():.4f} equal {torch.equal(check, other)}")
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as tmp:
        mp.spawn(run, args=(2, tmp + "/store"), nprocs=2)
