"""Gloo processes that call collectives; the first argument names how, the second one how many there are."""
import datetime
import os
import sys
import tempfile
import threading

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP

KIND, WORLD = sys.argv[1], int(sys.argv[2])
DDP_KINDS = ("barrier beside ddp", "reduced beside ddp", "uneven ends under join")


def total(value):
    value = torch.as_tensor(value, dtype=torch.float32).reshape(1)
    dist.all_reduce(value)
    return value.item()


def average(model, rank):
    parameters = list(model.parameters())
    if KIND == "another order" and rank == 1:
        parameters.reverse()
    for parameter in parameters:
        dist.all_reduce(parameter.grad)  # averaged
        parameter.grad /= WORLD


def sum_of_losses(value):
    dist.all_reduce(value)


def sum_of_hits(value):
    dist.all_reduce(value)  # hits


def two_sums(rank, loss, hits):
    """Two sums of one value each, on the second rank in another order: by function, by line, by caller."""
    if KIND == "swapped functions":
        for add in (sum_of_losses, sum_of_hits)[:: 1 - 2 * (rank == 1)]:
            add(loss if add is sum_of_losses else hits)
    elif KIND == "swapped lines":
        if rank == 1:
            dist.all_reduce(hits)
            dist.all_reduce(loss)
        else:
            dist.all_reduce(loss)  # first
            dist.all_reduce(hits)
    elif KIND == "swapped callers":
        if rank == 1:
            sum_of_losses(hits)
            sum_of_losses(loss)
        else:
            sum_of_losses(loss)
            sum_of_losses(hits)


def in_turn(rank):
    """What is right and looks alike: one rank gives, the others add nothing; or each has a line of its own."""
    mine, nothing = torch.full((3,), rank + 1.0), torch.zeros(3)
    for source in range(WORLD):
        if source == rank:
            dist.all_reduce(mine)
        else:
            dist.all_reduce(nothing)
            nothing.zero_()
    for source in range(WORLD):
        if source == rank:
            sum_of_losses(mine)
        else:
            sum_of_hits(nothing)
            nothing.zero_()
    if rank == 0:
        dist.broadcast(mine, 0)
        dist.broadcast(nothing, 0)
    else:
        dist.broadcast(nothing, 0)
        dist.broadcast(mine, 0)
    if rank == 0:
        dist.all_reduce(mine)
    else:
        other = mine.clone()
        dist.all_reduce(other)
    best = torch.tensor([-rank - 1.0])
    lowest = torch.tensor([rank + 1.0])
    if rank == 0:
        dist.all_reduce(best, op=dist.ReduceOp.MAX)
        dist.all_reduce(lowest, op=dist.ReduceOp.MAX)
    else:
        dist.all_reduce(lowest, op=dist.ReduceOp.MAX)
        dist.all_reduce(best, op=dist.ReduceOp.MAX)
    for index, name in enumerate(("a", "b")[:: 1 - 2 * (rank == 1)]):
        values = {"a": mine, "b": nothing}
        dist.all_reduce(values[name] * 0 + index + 1)


def talk(rank):
    """Much that ranks may do, each in its own way."""
    rows, mine = [torch.zeros(2) for _ in range(WORLD)], torch.full((2,), float(rank))
    dist.gather(mine, rows if rank == 0 else None, dst=0)
    dist.scatter(mine, rows if rank == 0 else None, src=0)
    names = [None] * WORLD
    dist.all_gather_object(names, "x" * (rank + 1))
    for source in range(WORLD):
        if source == rank:
            dist.broadcast(mine, src=source)
        else:
            dist.broadcast(torch.zeros(2), src=source)
    work = dist.all_reduce(mine, async_op=True)
    other = dist.all_reduce(torch.ones(3), async_op=True)
    for handle in (work, other) if rank else (other, work):
        handle.wait()
    if rank == 0:
        dist.send(mine, 1)
        dist.send(mine, 1)
    elif rank == 1:
        dist.recv(mine, 0)
        dist.recv(mine, 0)
    pair = dist.new_group([0, 1])
    alone = dist.new_group([rank for rank in range(WORLD) if rank != 1])
    if rank < 2:
        dist.all_reduce(torch.ones(rank + 1)[:1], group=pair)
    if rank != 1:
        for _ in range(3):
            dist.all_reduce(torch.ones(5), group=alone)
    background = dist.new_group()
    thread = threading.Thread(target=dist.barrier, kwargs={"group": background})
    thread.start()
    dist.all_reduce(torch.ones(1))
    thread.join()
    try:
        raise MemoryError
    except MemoryError:
        dist.all_reduce(torch.ones(1))
    sizes = [rank + to + 1 for to in range(WORLD)]
    dist.all_to_all_single(torch.zeros(sum(sizes)), torch.ones(sum(sizes)), sizes, sizes)
    dist.monitored_barrier()


def worker(rank, port):
    limit = datetime.timedelta(seconds=8 if KIND == "barrier beside ddp" else 60)
    store = f"file://{port}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD, timeout=limit)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    model = DDP(model) if KIND in DDP_KINDS else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(rank)
    batches = 4 + rank if KIND == "uneven ends under join" else 4

    def train():
        for step in range(batches):
            loss = model(torch.randn(8, 4)).square().mean()
            if KIND == "barrier beside ddp" and rank == 0 and epoch == 1:
                dist.barrier()
            optimizer.zero_grad()
            loss.backward()
            if KIND not in DDP_KINDS:
                average(model, rank)
            optimizer.step()
            if KIND == "one more, in silence" and rank == 0 and epoch == 1 and step == 2:
                dist.all_reduce(torch.full((1,), 100.0))
        return loss.item()

    for epoch in range(2 if KIND == "shorter" else 3):
        if KIND == "uneven ends under join":
            with model.join():
                loss = train()
        else:
            loss = train()
        if KIND == "reduced beside ddp" and rank == 0:
            total(loss)
        if KIND == "an exception of its own" and rank == 1 and epoch == 2:
            raise IndexError("of its own")
        if KIND == "another type":
            counted = torch.tensor([epoch], dtype=torch.int32 if rank else torch.float32)
            dist.all_reduce(counted)  # typed
        if KIND == "another root":
            dist.broadcast(torch.zeros(4), src=rank)
        total(loss)
        if KIND.startswith("swapped"):
            two_sums(rank, torch.tensor([loss]), torch.tensor([rank + 5.0]))
    if KIND == "in turn":
        in_turn(rank)
    if KIND == "much":
        talk(rank)
    if KIND == "no partner" and rank == 0:
        dist.barrier()
    dist.destroy_process_group()
    if KIND == "met again":
        dist.init_process_group("gloo", init_method=f"{store}2", rank=WORLD - 1 - rank, world_size=WORLD)
        total(loss)
        dist.destroy_process_group()


if __name__ == "__main__":
    for time in range(2 if KIND == "launched twice" else 1):
        with tempfile.TemporaryDirectory() as folder:
            if KIND == "launched twice":
                KIND = ("launched twice", "shorter")[time]
            mp.start_processes(worker, (os.path.join(folder, "met"),), WORLD, start_method="fork")
