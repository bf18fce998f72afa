"""Counting allocations begins and ends at any place of a program, and does it no harm."""

from __future__ import annotations

import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from explainer.recorded import recorded_here
from loopwright.events.explained import Effects
from loopwright.explainer.effects.memory import OTHERS, STARTS, Memory

BLOCKS = """
import ctypes, sys
import torch
from loopwright.explainer.effects.memory import Memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
SIZES = (64, 256, 1024, 4096, 16384, 65536, 131072, 262144) * 8
written = []


def start_again(memory):
    \"\"\"End, fill with a pattern what was freed, begin anew.\"\"\"
    memory.stop()
    for size in SIZES:
        block = libc.malloc(size)
        ctypes.memset(block, 0xA5, size)
        written.append((block, size))
    memory.start()


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        start_again(memory)
        return 2 * x


x = torch.ones(3)
for turn in range(10):
    memory = Memory()
    memory.start()
    if sys.argv[1] == "record_function":
        with torch.autograd.profiler.record_function("a step"):
            x + 1
            start_again(memory)
    elif sys.argv[1] == "optimizer":
        p = torch.nn.Parameter(x.clone())
        optimizer = torch.optim.LBFGS([p], max_iter=3)

        def closure():
            start_again(memory)
            return p.square().sum()

        optimizer.step(lambda: closure().requires_grad_())
    else:
        Twice.apply(x)
        print(memory.refused, memory.running)
    memory.stop()
changed = sum(ctypes.string_at(block, size) != b"\\xa5" * size for block, size in written)
print(len(written) // len(SIZES), "times,", changed, "blocks changed")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into the C library's memory")
@pytest.mark.parametrize("around", ["record_function", "optimizer", "function"])
def test_nothing_is_written_into_freed_memory(run_program, around):
    """What was open when counting ended, and ends when it goes on, writes nothing into others' memory."""
    done = run_program(["-c", BLOCKS, around])
    assert done.rc == 0, done.err
    *refused, last = done.out.splitlines()
    assert last.endswith(" times, 0 blocks changed")
    assert int(last.split()[0]) >= 10
    if around == "function":  # of torch's: there, counting does not go on
        told = "allocations were counted until a loop's turn began in a call of Twice False"
        assert refused == [told] * 10


def test_a_profiler_of_the_programs_own():
    """It sees what it sees without us, from its first turn to its last; a note says what is missing."""
    seen = {}

    def train(key):
        torch.manual_seed(0)
        model = nn.Linear(6, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        found = seen[key] = []
        for _ in range(3):
            optimizer.zero_grad()
            with torch.autograd.profiler.profile(profile_memory=True, use_cpu=True) as profile:
                for _ in range(1):
                    model(torch.ones(8, 6)).square().mean().backward()
            found.append(sorted(one.name for one in profile.function_events))
            optimizer.step()

    train("alone")
    record = recorded_here(lambda: train("explained"), steps=1, timed=1)
    for alone, explained in zip(seen["alone"], seen["explained"], strict=True):
        assert not Counter(alone) - Counter(explained)  # which has what we look at besides
    assert OTHERS in record.notes
    (loop,) = [one for one in record.loops if one.kind == "training"]
    assert loop.turns == 3


def test_two_memories_one_after_the_other():
    """Everything is taken out at the end; another one can begin."""
    before = {name: getattr(torch.autograd.profiler, name) for name in STARTS}
    for _ in range(2):
        memory = Memory()
        memory.start()
        assert memory.running
        memory.stop()
        assert not memory.refused
    assert before == {name: getattr(torch.autograd.profiler, name) for name in before}


def test_what_is_ours_is_not_recorded():
    """Looking at tensors leaves no records of functions, one look inside another neither."""
    memory, visit = Memory(), SimpleNamespace(allocations=[], effects=Effects())
    memory.start()
    made = memory.profile
    memory.mark(visit)
    with memory.ours():
        torch.ones(7).cos()
        with memory.ours():
            torch.ones(7).sin()
        torch.ones(7).exp()
    kept = torch.zeros(1000)
    memory.stop()
    names, pending = set(), list(made.kineto_results.experimental_event_tree())
    while pending:
        names.add(pending[-1].name)
        pending += pending.pop().children
    assert "aten::zeros" in names
    assert not names & {"aten::cos", "aten::sin", "aten::exp"}
    assert visit.effects.made_bytes == kept.numel() * kept.element_size()
