import tempfile
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from sklearn.datasets import load_digits


class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, n)

    def forward(self, x):
        return self.head(self.body(x))


def finetune(rank, world, path):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    torch.manual_seed(5)
    d = load_digits()
    data = TensorDataset(torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target))
    sampler = DistributedSampler(data)
    loader = DataLoader(data, batch_size=60, sampler=sampler)
    net = Net(1000)                       # a "pretrained" backbone with another head
    model = DDP(net, find_unused_parameters=True)
    model.module.head = nn.Linear(32, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        print(f"[{rank}] epoch {epoch} loss {loss.item():.4f} head norm {model.module.head.weight.norm().item():.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as tmp:
        mp.spawn(finetune, args=(2, tmp + "/s"), nprocs=2)
