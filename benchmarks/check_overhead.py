"""What `loopwright check` costs: counted events × measured cost, beside an interleaved benchmark with a null.

    python benchmarks/check_overhead.py [ROUNDS] [PART ...]

Parts: ``24`` and ``52`` (modules called, steps of about 2 and 4 ms), ``large`` (10⁷ parameters), ``memory``;
all without a name. The cost of each kind of event is measured first. Then each model trains in turns of 50
steps unobserved, observed, and unobserved again ("null"), each in a process of its own, in an order that
changes with the round, in CPU time, after the first 1,600 steps, in which everything is seen. Rounds are
compared each within itself, observed with the mean of the other two and null with plain, since what else the
machine does changes from round to round; 28 rounds see one whole period of rest and attention. ``memory``
trains for many steps observed and prints the process's memory before and after.
"""

from __future__ import annotations

import gc
import multiprocessing
import platform
import resource
import statistics
import sys
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from loopwright.checker.session import Session

STEPS = 50


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
    if observed:
        session.observer.install()
    start = time.process_time()
    train(1600)
    pipe.send(time.process_time() - start)
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
    pipes, processes, first = {}, [], {}
    for name in ("plain", "observed", "null"):
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(make, name == "observed", theirs)))
        processes[-1].start()
        first[name] = pipes[name].recv()
    times = {name: [] for name in pipes}
    names = list(pipes)
    for turn in range(rounds):
        for name in names[turn % 3 :] + names[: turn % 3]:
            pipes[name].send(True)
            times[name].append(pipes[name].recv())
    seen = {}
    for name, process in zip(names, processes, strict=True):
        pipes[name].send(False)
        counts = pipes[name].recv()
        if name == "observed":
            seen = {kind: count / rounds / STEPS for kind, count in counts.items()}
        process.join()
    return times, seen, first["observed"]


def percent(ratios):
    """Median, mean and standard error of the mean of ratios, as a difference in per cent."""
    spread = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else 0.0
    middle, mean = statistics.median(ratios) - 1, statistics.fmean(ratios) - 1
    return f"{100 * middle:+.2f} % (mean {100 * mean:+.2f} ± {100 * spread:.2f})"


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
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 28
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
        times, events, first = interleaved(make, rounds)
        computed = sum(each.get(kind, 0) * count for kind, count in events.items())
        plain = statistics.median(times["plain"])
        three = list(zip(*times.values(), strict=True))
        observed = percent([2 * seen / (before + after) for before, seen, after in three])
        print(
            f"{part}: {plain:.3f} ms a step, observed {observed}, "
            f"null {percent([after / before for before, _, after in three])}; "
            f"{sum(events.values()):.2f} events a step x cost = {computed:.1f} µs "
            f"= {computed / plain / 10:.2f} %; the first 1,600 steps took {first:.2f} s, "
            f"unobserved {1.6 * plain:.2f} s"
        )
    if "memory" in parts:
        first, last = memory()
        print(
            f"memory: {first[0]} kB, {first[1]} objects after 500 steps; "
            f"{last[0]} kB, {last[1]} objects after 3,500"
        )


if __name__ == "__main__":
    main()
