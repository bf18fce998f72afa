"""Gloo processes that send the same things, on the second rank in another order; or that only look like it.

The first argument is a function of this file, or "right": all of those that are right, one after the other.
"""
import os
import sys
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

KIND, WORLD = sys.argv[1], int(sys.argv[2])


class Net(nn.Module):
    """Two layers of one shape."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)


def seen_by(rank):
    """Classes in the order of first sight, and the number of each."""
    labels = [8, 16, 24, 8] if rank != 1 else [24, 16, 8, 8]
    counts = {}
    for label in labels:
        counts[label] = counts.get(label, torch.zeros(1)) + 1.0 + rank
    return counts


def sums_of_a_set(rank):
    counts = seen_by(rank)
    classes = {*counts}
    for label in classes:
        dist.all_reduce(counts[label])  # wrong
    return {label: counts[label].item() for label in sorted(classes)}


def sums_of_a_listed_set(rank):
    counts = seen_by(rank)
    names = list(set(counts))
    for index, label in enumerate(names):
        count = counts[label]
        dist.all_reduce(count)  # wrong
        print(index, label, count.item())


def sums_of_a_dict(rank):
    for label, count in seen_by(rank).items():
        dist.all_reduce(count)  # wrong
        print(label, count.item() / WORLD)


def gathered_by_name(rank):
    counts, all_counts = seen_by(rank), {}
    for label in counts:
        parts = [torch.zeros(1) for _ in range(WORLD)]
        dist.all_gather(parts, counts[label])  # wrong
        all_counts[label] = parts
    return all_counts


def gradients_of_a_dict(rank):
    model = Net()
    model.one(torch.randn(4, 3)).add(model.two(torch.randn(4, 3))).sum().backward()
    parameters = dict.fromkeys([*model.parameters()][:: -1 if rank == 1 else 1])
    for parameter in parameters:
        dist.all_reduce(parameter.grad)  # wrong
        parameter.grad /= WORLD


def gradients_in_reverse(rank):
    torch.manual_seed(0)  # replicas
    model = Net()
    model.one(torch.randn(4, 3)).add(model.two(torch.randn(4, 3))).sum().backward()
    mine = [model.two.weight, model.one.weight] if rank == 1 else [model.one.weight, model.two.weight]
    for parameter in mine:
        dist.all_reduce(parameter.grad.data)  # wrong


def weights_of_a_dict(rank):
    model = Net()
    shuffled = dict.fromkeys([*model.parameters()][:: -1 if rank == 1 else 1])
    for parameter in shuffled:
        dist.broadcast(parameter.data, 0)  # wrong


def weights_of_a_state(rank):
    torch.manual_seed(rank)
    names = [*Net().state_dict()][:: -1 if rank == 1 else 1]
    state, wanted = Net().state_dict(), dict.fromkeys(names)
    for name in wanted:
        dist.broadcast(state[name], src=0)  # wrong


def gathered_lines(rank):
    loss, hits = torch.tensor([rank + 1.0]), torch.tensor([rank + 10.0])
    losses, all_hits = torch.zeros(WORLD), torch.zeros(WORLD)
    if rank == 1:
        dist.all_gather_into_tensor(all_hits, hits)
        dist.all_gather_into_tensor(losses, loss)
    else:
        dist.all_gather_into_tensor(losses, loss)  # wrong
        dist.all_gather_into_tensor(all_hits, hits)


def sums_around_a_barrier(rank):
    loss, hits = torch.tensor([rank + 1.0]), torch.tensor([rank + 10.0])
    if rank == 1:
        dist.all_reduce(hits)
        dist.barrier()
        dist.all_reduce(loss)
    else:
        dist.all_reduce(loss)  # wrong
        dist.barrier()
        dist.all_reduce(hits)


def sums_that_are_awaited(rank):
    counts, works = seen_by(rank), []
    group = dist.new_group([0, 1])
    if rank < 2:
        for label in counts:
            works.append(dist.all_reduce(counts[label], group=group, async_op=True))  # wrong
        for work in works:
            work.wait()
        print({label: one.item() for label, one in sorted(counts.items())})


def right_sorted(rank):
    """In an order of the program's making."""
    counts = seen_by(rank)
    for label in sorted(counts):
        dist.all_reduce(counts[label])
    print({label: one.item() for label, one in counts.items()})


def right_total(rank):
    """All are added up in the end: the order is nobody's affair."""
    counts = seen_by(rank)
    total, several = torch.zeros(1), []
    for label in {*counts}:
        dist.all_reduce(counts[label])
        total += counts[label]
    for label, count in seen_by(rank).items():
        dist.all_reduce(count)
        several.append(count)
    by_place = {}
    for place, (_label, count) in enumerate(seen_by(rank).items()):
        dist.all_reduce(count)
        by_place[place] = count
    for count in (counts := seen_by(rank)).values():
        dist.all_reduce(count)
    print(torch.stack([*counts.values()]))
    counts = seen_by(rank)
    for label in counts:
        count = counts[label]
        dist.all_reduce(count)
    print(total, sum(several), sum(counts.values()))


def right_own_first(rank):
    """Each begins with its own: what is added up has a place, and no name."""
    scores = [torch.full((1,), 1.0 + rank + at) for at in range(WORLD)]
    for shift in range(WORLD):
        dist.all_reduce(scores[(rank + shift) % WORLD])
    by_rank = {(rank + shift) % WORLD: torch.full((1,), 1.0 + shift) for shift in range(WORLD)}
    for other in by_rank:
        dist.all_reduce(by_rank[other])
    domains = ["law", "physics", "poems"][:WORLD]
    accuracy = {name: torch.full((1,), 0.5 + at) for at, name in enumerate(domains)}
    for name in domains[rank:] + domains[:rank]:
        dist.all_reduce(accuracy[name])


def right_experts(rank):
    """The ranks name their experts each in its own way: those that are summed are the same one."""
    experts = nn.ModuleList(nn.Linear(3, 3) for _ in range(WORLD))
    with torch.no_grad():
        for at, expert in enumerate(experts):
            for one in expert.parameters():
                one.fill_((rank + at) % WORLD + 1.0 + 10 * rank)
    sum(expert(torch.randn(4, 3)).sum() for expert in experts).backward()
    for number in range(WORLD):
        expert = experts[(number - rank) % WORLD]
        for parameter in expert.parameters():
            dist.broadcast(parameter.data, 0)
            dist.all_reduce(parameter.grad)


def right_values(rank):
    """What a loop's name is not the name of."""
    for index, label in enumerate(seen_by(rank)):
        value = torch.full((1,), index + 1.0)
        dist.all_reduce(value)
        given = {label: torch.full((1,), 1.0 + rank)}
        dist.all_reduce(given[label] if index == rank else torch.zeros(1))
    norm = torch.zeros(1)
    for parameter in dict.fromkeys([*Net().parameters()][:: -1 if rank == 1 else 1]):
        square = parameter.detach().norm().square().reshape(1)
        dist.all_reduce(square)
        norm += square


def right_roles(rank):
    """Lines of their own on each rank, and what a receiver names as it likes."""
    first, second = torch.ones(2) + rank, torch.ones(2) * 3
    parts = [torch.zeros(2) for _ in range(WORLD)]
    if rank == 0:
        dist.broadcast(first, 0)
        dist.broadcast(second, 0)
        dist.gather(first, parts)
        dist.gather(second, parts)
        dist.scatter(first, parts)
        dist.scatter(second, parts)
    else:
        dist.broadcast(second, 0)
        dist.broadcast(first, 0)
        dist.gather(second)
        dist.gather(first)
        dist.scatter(second)
        dist.scatter(first)
    if rank == 0:
        works = [dist.isend(first, 1), dist.irecv(second, 1)]
    elif rank == 1:
        works = [dist.irecv(second, 0), dist.isend(first, 0)]
    else:
        works = []
    for work in works:
        work.wait()
    if rank < 2:
        for one in (first, second)[:: 1 - 2 * rank]:
            dist.send(one, 1, tag=one is first) if rank == 0 else dist.recv(one, 0, tag=one is second)
    nothing, given = torch.zeros(1), torch.ones(1)
    gathered, other = torch.zeros(WORLD), torch.zeros(WORLD)
    if rank == 0:
        dist.all_gather_into_tensor(gathered, given)
        dist.all_gather_into_tensor(other, nothing)
    else:
        dist.all_gather_into_tensor(other, nothing)
        dist.all_gather_into_tensor(gathered, given)


def worker(rank, port):
    dist.init_process_group("gloo", init_method=f"file://{port}", rank=rank, world_size=WORLD)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    right = [name for name in globals() if name.startswith("right_")]
    for name in right if KIND == "right" else [KIND]:
        globals()[name](rank)
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(worker, (os.path.join(folder, "met"),), WORLD, start_method="fork")
