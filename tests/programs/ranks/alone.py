"""Two gloo processes, each with a model; the first argument names what joins their trainings, or why nothing does."""
import os
import socket
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def net():
    return nn.Sequential(nn.Linear(8, 512), nn.ReLU(), nn.Linear(512, 2))


def averaged(tensors):
    for tensor in tensors:
        dist.all_reduce(tensor)
        tensor /= dist.get_world_size()


def gathered(tensors):
    for tensor in tensors:
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor)
        tensor.copy_(torch.stack(parts).mean(0))


def served(rank, tensors):
    """The first rank has the weights, the other one sends gradients."""
    for tensor in tensors:
        if rank:
            dist.send(tensor, 0)
            dist.recv(tensor, 0)
        else:
            theirs = torch.empty_like(tensor)
            dist.recv(theirs, 1)
            tensor.add_(theirs).div_(2)
            dist.send(tensor, 1)


def wrapped(model, kind, mesh):
    if kind in ("ddp", "comm hook"):
        model = DistributedDataParallel(model)
    if kind == "comm hook":
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
        model.register_comm_hook(None, fp16_compress_hook)
    if kind == "fsdp":
        from torch.distributed.fsdp import fully_shard
        fully_shard(model, mesh=mesh())
    if kind == "tensor parallel":
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
        parallelize_module(model, mesh(), {"0": ColwiseParallel(), "2": RowwiseParallel()})
    return model


def worker(rank, world_size, port, kind, shared):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(world_size))
    torch.set_num_threads(1)
    if kind != "no group":
        dist.init_process_group("gloo", rank=rank, world_size=world_size)
    torch.manual_seed(rank if kind == "ensemble" else 0)
    x = torch.randn(256, 8)
    data = TensorDataset(x, (x[:, 0] > 0).long())
    whole = kind in ("sweep", "ensemble", "one trains", "tensor parallel")
    sampler = DistributedSampler(data, num_replicas=world_size, rank=rank)
    loader = DataLoader(data, batch_size=32, shuffle=True) if whole else DataLoader(data, batch_size=32, sampler=sampler)

    def mesh():
        from torch.distributed.device_mesh import init_device_mesh
        return init_device_mesh("cpu", (world_size,))

    model = wrapped(net() if shared is None else shared, kind, mesh)
    lr = 0.1 / (1 + rank) if kind in ("sweep", "sweep over shares") else 0.1
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    step = 0
    if kind == "local sgd":
        from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
        averager = PeriodicModelAverager(period=6)
    for epoch in range(6 if whole and kind != "tensor parallel" else 3):
        sampler.set_epoch(epoch)
        for inputs, labels in loader:
            if kind == "one trains" and rank:
                with torch.no_grad():
                    model(inputs)
                continue
            step += 1
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()
            gradients = [p.grad for p in model.parameters()]
            if kind == "gradients by hand":
                averaged(gradients)
            if kind == "gathered by hand":
                gathered(gradients)
            if kind == "a server":
                served(rank, gradients)
            optimizer.step()
            with torch.no_grad():
                if kind == "local sgd":
                    averager.average_parameters(model.parameters())
                if kind == "federated" and step % 6 == 0:
                    averaged([p.data for p in model.parameters()])
                if kind == "federated by objects" and step % 6 == 0:
                    told = [None] * world_size
                    dist.all_gather_object(told, model.state_dict())
                    model.load_state_dict({n: sum(one[n] for one in told) / world_size for n in told[0]})
                if kind == "federated by files" and step % 6 == 0:
                    torch.save(model.state_dict(), f"part-{rank}.pt")
                    dist.barrier()
                    parts = [torch.load(f"part-{other}.pt") for other in range(world_size)]
                    for name, held in model.named_parameters():
                        held.copy_(sum(one[name] for one in parts) / world_size)
                    dist.barrier()
                if kind == "another group" and step == 6:
                    dist.new_group([0, 1])
        if kind != "no group":  # what everybody does: the mean loss, for the log
            total = torch.tensor([float(len(x)), 0.5])
            dist.all_reduce(total)
    if kind == "a file each":
        torch.save(model.state_dict(), f"model-{rank}.pt")
    elif kind == "over each other":
        torch.save(model.state_dict(), "model.pt")
    elif kind != "nobody saves" and rank == 0:
        torch.save({name: one.detach() for name, one in model.state_dict().items()}, "model.pt")
    if kind != "no group":
        dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    shared = net().share_memory() if sys.argv[1] == "shared memory" else None
    mp.spawn(worker, args=(2, port, sys.argv[1], shared), nprocs=2)
