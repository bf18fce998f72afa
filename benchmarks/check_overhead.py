"""What `loopwright check` costs: counted events × measured cost, beside an interleaved benchmark with a null.

    python benchmarks/check_overhead.py [ROUNDS] [PART ...]

Parts: ``24`` and ``52`` (modules called, steps of about 2 and 4 ms), ``large`` (10⁷ parameters), ``memory``;
all without a name. The cost of each kind of event is measured first. Then each model trains in turns of 50
steps unobserved, observed, and unobserved again ("null"), each in a process of its own, in a random order, in
CPU time, after the first 1,600 steps, in which everything is seen. Rounds are compared each within itself,
observed with the mean of the other two and null with plain, since what else the machine does changes from
round to round; 40 rounds see one whole period of rest and attention. Two processes that do the same differ by
up to 1 % for as long as they live, so it is done with six threes of processes, one after another (``large``:
three). The figures are the mean of their medians and its standard error; a median leaves out the turns in
which the observer is awake, so the time that all turns took together is compared as well. ``memory`` trains
for many steps observed and prints the process's memory before and after.
"""

from __future__ import annotations

import gc
import multiprocessing
import platform
import random
import resource
import statistics
import sys
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from loopwright.checker.session import Session

STEPS, FIRST = 50, 1600
THREES = {"24": 6, "52": 6, "large": 3}


def small(blocks=12):
    """A step of about 4 ms on one core: 12 blocks, 52 modules called."""
    layers = []
    for _ in range(blocks):
        layers += [nn.Linear(192, 192), nn.LayerNorm(192), nn.ReLU(), nn.Dropout(0.1)]
    return nn.Sequential(nn.Linear(64, 192), *layers, nn.Linear(192, 10)), 48


def smaller():
    """Of about 2 ms: 24 modules called."""
    return small(5)


def large():
    """10⁷ parameters."""
    layers = []
    for _ in range(9):
        layers += [nn.Linear(1024, 1024), nn.ReLU()]
    return nn.Sequential(nn.Linear(64, 1024), *layers, nn.Linear(1024, 10)), 16


def trainer(make):
    """A function that trains that many steps of the tutorial loop."""
    torch.manual_seed(0)
    model, batch = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, foreach=True)
    criterion = nn.CrossEntropyLoss()
    data = TensorDataset(torch.randn(batch * STEPS, 64), torch.randint(0, 10, (batch * STEPS,)))
    loader = DataLoader(data, batch_size=batch, shuffle=True)

    def train(steps=STEPS):
        total = 0.0
        done = 0
        while done < steps:
            for inputs, labels in loader:
                optimizer.zero_grad()
                loss = criterion(model(inputs), labels)
                loss.backward()
                optimizer.step()
                total += loss.item()
                done += 1
        return total

    return train


def serve(make, observed, pipe):
    """Train turns when asked, in a process of its own; the first 1,600 steps are seen in full."""
    torch.set_num_threads(1)
    train = trainer(make)
    session = Session()
    first = FIRST if make is not large else 1100  # it rests after 1,000
    if observed:
        session.observer.install()
    start = time.process_time()
    train(first)
    pipe.send((time.process_time() - start) * FIRST / first)
    before = dict(session.observer.counts)
    while pipe.recv():
        start = time.process_time()
        train()
        pipe.send((time.process_time() - start) * 1000 / STEPS)
    assert session.observer.failure is None, session.observer.failure
    counts = session.observer.counts
    pipe.send({kind: count - before.get(kind, 0) for kind, count in counts.items()})


def interleaved(make, rounds):
    """CPU ms a step of each turn: unobserved, observed, unobserved again; a process each, in turns."""
    context = multiprocessing.get_context("spawn")
    names = ["plain", "observed", "null"]
    pipes, processes, first = {}, {}, {}
    for name in random.sample(names, 3):
        pipes[name], theirs = context.Pipe()
        process = context.Process(target=serve, args=(make, name == "observed", theirs))
        process.start()
        processes[name], first[name] = process, pipes[name].recv()
    times = {name: [] for name in names}
    for _ in range(rounds):
        for name in random.sample(names, 3):
            pipes[name].send(True)
            times[name].append(pipes[name].recv())
    seen = {}
    for name, process in processes.items():
        pipes[name].send(False)
        counts = pipes[name].recv()
        if name == "observed":
            seen = {kind: count / rounds / STEPS for kind, count in counts.items()}
        process.join()
    return times, seen, first["observed"]


def middle(ratios):
    """The median of one three's ratios, as a difference in per cent."""
    return 100 * (statistics.median(ratios) - 1)


def together(seen, plain):
    """What all turns of one three took more, in per cent."""
    return 100 * (sum(seen) / sum(plain) - 1)


def several(figures):
    """Their mean and its standard error."""
    spread = statistics.stdev(figures) / len(figures) ** 0.5
    return f"{statistics.fmean(figures):+.2f} ± {spread:.2f} %"


def costs():
    """µs that each kind of event adds to its call, accounts included, in a warm session."""
    train = trainer(small)
    train(10)
    session = Session()
    session.start()
    train(300)
    spent = {}
    observer = session.observer
    real = observer.tell

    def timed(handlers, event):
        start = time.thread_time_ns()
        real(handlers, event)
        spent[event.kind] = spent.get(event.kind, 0) + time.thread_time_ns() - start

    observer.tell = timed
    before = dict(observer.counts)
    train(300)
    session.end()
    return {
        kind: spent[kind] / 1000 / (observer.counts[kind] - before.get(kind, 0))
        for kind in spent
        if observer.counts[kind] > before.get(kind, 0)
    }


def memory(steps=3000):
    """Resident kB and Python objects after 500 steps and at the end, observed."""
    train = trainer(lambda: (nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), 16))
    session = Session()
    session.start()
    train(500)
    gc.collect()
    first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(gc.get_objects())
    train(steps)
    gc.collect()
    last = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(gc.get_objects())
    session.end()
    return first, last


def main():
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    parts = sys.argv[2:] or ["24", "52", "large", "memory"]
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )
    each = costs()
    print("µs an event:", ", ".join(f"{kind} {cost:.1f}" for kind, cost in sorted(each.items())))
    for part, make in (("24", smaller), ("52", small), ("large", large)):
        if part not in parts:
            continue
        observed, null, whole, plain, counted, spent = [], [], [], [], [], []
        for _ in range(THREES[part]):
            times, events, first = interleaved(make, rounds)
            three = list(zip(*times.values(), strict=True))
            observed.append(middle([2 * seen / (before + after) for before, seen, after in three]))
            null.append(middle([after / before for before, _, after in three]))
            halves = [(before + after) / 2 for before, _, after in three]
            whole.append(together(times["observed"], halves))
            plain.append(statistics.median(times["plain"]))
            counted.append(sum(each.get(kind, 0) * count for kind, count in events.items()))
            spent.append(first)
        step, events = statistics.fmean(plain), statistics.fmean(counted)
        print(
            f"{part}: {step:.3f} ms a step, observed {several(observed)}, null {several(null)}, all turns "
            f"together {several(whole)}; events x cost = {events:.1f} µs = {events / step / 10:.2f} %; the "
            f"first 1,600 steps took {statistics.fmean(spent):.2f} s, unobserved {1.6 * step:.2f} s",
            flush=True,
        )
    if "memory" in parts:
        first, last = memory()
        print(
            f"memory: {first[0]} kB, {first[1]} objects after 500 steps; "
            f"{last[0]} kB, {last[1]} objects after 3,500"
        )


if __name__ == "__main__":
    main()
