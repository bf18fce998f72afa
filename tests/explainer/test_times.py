"""Times, of a program whose clock goes on only when it says so: every one is known beforehand."""

from __future__ import annotations

import gc
import time
from itertools import pairwise
from statistics import median

import pytest
import torch

from explainer.clock import library
from explainer.recorded import recorded_here
from loopwright.report.explain_html import render as page
from loopwright.report.explain_terminal import render

SPACE = library(
    """
class Slow(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        CLOCK.takes(20)
        return x.clone()

    @staticmethod
    def backward(context, grad):
        CLOCK.takes(50)
        return grad


class Model(torch.nn.Linear):
    extra = 0

    def forward(self, x):
        CLOCK.takes(30 + self.extra)
        return Slow.apply(super().forward(x))


class Outer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Model(2, 1)

    def forward(self, x):
        CLOCK.takes(2)
        return self.inner(x)


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 48

    def __getitem__(self, index):
        CLOCK.takes(5)
        return torch.ones(2)


def runs(phase, info):
    CLOCK.takes(500 * (phase == "stop" and info["generation"] == 2))


def garbage():
    import gc

    gc.collect(2)  # as it does by itself when there is much


class Slowly(torch.optim.SGD):
    @torch.no_grad()
    def step(self, closure=None):
        CLOCK.takes(70)
        super().step()

    def zero_grad(self, set_to_none=True):
        CLOCK.takes(9)
        super().zero_grad(set_to_none)
"""
)
CLOCK, Outer, Data, Slowly = (SPACE[name] for name in ("CLOCK", "Outer", "Data", "Slowly"))
STEPS, TIMED = 2, 9
OWN = 11
"""Microseconds of a line of the program's own."""


def inner(turn):
    """A function of the program: 3 µs, and 4 more each third turn."""
    CLOCK.takes(3)
    if turn % 3 == 0:
        CLOCK.takes(4)
    return turn


def train():
    """Twelve batches of four; the model takes longer from turn to turn."""
    loader = torch.utils.data.DataLoader(Data(), batch_size=4)
    model = Outer()
    optimizer = Slowly(model.parameters(), lr=0.1)
    for turn, batch in enumerate(loader, 1):
        model.inner.extra = turn % 5 * (turn % 5)
        optimizer.zero_grad()
        target = model(batch)
        loss = target.sum()
        loss.backward()
        optimizer.step()
        CLOCK.takes(OWN)
        inner(turn)


@pytest.fixture(scope="module")
def seen():
    """The narrated record."""
    return recorded_here(train, steps=STEPS, timed=TIMED, clock=CLOCK)


def text(record, note):
    """The source of a line."""
    return record.files[note.file].text.splitlines()[note.line - 1].strip()


def expected(turn):
    """Microseconds of each line of a turn, without what it calls of the program's own."""
    return {
        "for turn, batch in enumerate(loader, 1):": 4 * 5,
        "optimizer.zero_grad()": 9,
        "target = model(batch)": 2 + 30 + turn % 5 * (turn % 5) + 20,
        "loss.backward()": 50,
        "optimizer.step()": 70,
        "CLOCK.takes(OWN)": OWN,
        "CLOCK.takes(3)": 3,
        "CLOCK.takes(4)": 4 * (turn % 3 == 0),
    }


def test_lines_of_recorded_steps(seen):
    """Each line has what it took, its caller that too; a step is their sum."""
    assert [one.number for one in seen.steps] == [1, 2]
    for one in seen.steps:
        took = {text(seen, line): line for line in one.lines}
        wanted = expected(one.number)
        for words, microseconds in wanted.items():
            if microseconds:
                assert took.pop(words).own_seconds == pytest.approx(microseconds / 1e6), words
        call = took.pop("inner(turn)")
        assert (call.own_seconds, call.seconds) == (0, pytest.approx(3e-6))
        assert [line.own_seconds for line in took.values()] == [0] * len(took)
        assert one.seconds == pytest.approx(sum(wanted.values()) / 1e6)


def test_events_of_recorded_steps(seen):
    """A call took what it took, its module's calls too."""
    for one in seen.steps:
        took = {event.kind: event for line in one.lines for event in line.events}
        inner = (30 + one.number % 5 * (one.number % 5) + 20) / 1e6
        assert {kind: event.seconds for kind, event in took.items() if kind != "epoch"} == {
            "fetch": pytest.approx(20e-6), "zero_grad": pytest.approx(9e-6),
            "forward": pytest.approx(2e-6 + inner), "backward": pytest.approx(50e-6),
            "step": pytest.approx(70e-6), "loss": 0}  # fmt: skip
        (module,) = took["forward"].facts["modules"]
        assert (module["path"], module["seconds"]) == ("inner", pytest.approx(inner))


def test_where_a_step_goes(seen):
    """Medians over the timed turns; the mean of what happens in a third of them; own Python is the rest."""
    (timing,) = seen.timings
    turns = range(STEPS + 1, STEPS + 1 + TIMED)
    assert (timing.turns, timing.recorded) == (TIMED, False)
    each = {words: [expected(turn)[words] for turn in turns] for words in expected(1)}
    middle = {words: median(found) / 1e6 for words, found in each.items()}
    middle["CLOCK.takes(4)"] = sum(each["CLOCK.takes(4)"]) / TIMED / 1e6
    lines = seen.files[0].text.splitlines()
    found = {
        lines[int(key.partition(":")[2]) - 1].strip(): one for key, one in timing.lines.items()
    }
    assert {words: one for words, one in found.items() if one} == {
        words: pytest.approx(one) for words, one in middle.items()
    }
    names = {"fetch": "for turn, batch in enumerate(loader, 1):", "zero_grad": "optimizer.zero_grad()",
             "forward": "target = model(batch)", "backward": "loss.backward()",
             "step": "optimizer.step()"}  # fmt: skip
    own = OWN / 1e6 + 3e-6 + middle["CLOCK.takes(4)"]
    assert timing.phases == {
        **{phase: pytest.approx(middle[words]) for phase, words in names.items()},
        "own Python": pytest.approx(own),
    }
    assert timing.seconds == pytest.approx(sum(middle.values()))


class Followed(torch.nn.Module):
    """A model of the program's own, whose statements are followed."""

    def __init__(self):
        super().__init__()
        self.inner = Outer()

    def forward(self, x):
        """What takes 6, 52 and 7 µs."""
        CLOCK.takes(6)
        x = self.inner(x)
        CLOCK.takes(7)
        return x


def test_statements_of_a_forward_are_part_of_it():
    """They have their own times, and are counted once: as forward, not as own Python beside it."""

    def train_and_validate():
        loader = torch.utils.data.DataLoader(Data(), batch_size=4)
        model = Followed()
        optimizer = Slowly(model.parameters(), lr=0.1)
        for turn, batch in enumerate(loader, 1):
            model(batch).sum().backward()
            optimizer.step()
            if turn % 5 == 0:
                slow_pass(model, batch, loop=True)

    seen = recorded_here(train_and_validate, steps=2, timed=10, clock=CLOCK)
    (timing,) = seen.timings
    assert timing.phases == {
        "fetch": pytest.approx(20e-6),
        "forward": pytest.approx(65e-6),
        "backward": pytest.approx(50e-6),
        "step": pytest.approx(70e-6),
    }
    assert timing.seconds == pytest.approx(205e-6)
    (validation,) = timing.seldom
    assert validation.phases == {
        "forward": pytest.approx(3 * 65e-6),
        "own Python": pytest.approx(100e-6),
    }
    assert validation.seconds == pytest.approx(295e-6)
    lines = seen.files[0].text.splitlines()
    for each, times in ((timing.lines, 1), (validation.lines, 3)):
        found = {lines[int(key.partition(":")[2]) - 1].strip(): one for key, one in each.items()}
        assert found["CLOCK.takes(7)"] == pytest.approx(times * 7e-6)
        assert found["x = self.inner(x)"] == pytest.approx(times * 52e-6)


def slow_pass(model, batch, *, loop):
    """A validation of 3 batches that waits for something, with a loop of its own or without."""
    CLOCK.takes(100)
    if loop:
        for _ in range(3):
            model(batch)
    else:
        model(batch), model(batch), model(batch)


@pytest.mark.parametrize("loop", [True, False])
def test_a_validation_in_one_step_of_five(loop):
    """It is told apart; a step is what a step takes without it, and nothing of it is own Python there."""

    def train_and_validate():
        loader = torch.utils.data.DataLoader(Data(), batch_size=4)
        model = Outer()
        optimizer = Slowly(model.parameters(), lr=0.1)
        for turn, batch in enumerate(loader, 1):
            model(batch).sum().backward()
            optimizer.step()
            if turn % 5 == 0:
                slow_pass(model, batch, loop=loop)

    seen = recorded_here(train_and_validate, steps=2, timed=10, clock=CLOCK)
    (timing,) = seen.timings
    assert timing.turns == 10
    forward = 2 + 30 + 20
    assert timing.phases == {
        "fetch": pytest.approx(20e-6),
        "forward": pytest.approx(forward / 1e6),
        "backward": pytest.approx(50e-6),
        "step": pytest.approx(70e-6),
    }
    assert timing.seconds == pytest.approx(sum(timing.phases.values()))
    (validation,) = timing.seldom
    assert (validation.turns, validation.seconds) == (2, pytest.approx((100 + 3 * forward) / 1e6))
    assert validation.phases == {
        "forward": pytest.approx(3 * forward / 1e6),
        "own Python": pytest.approx(100e-6),
    }
    assert sum(validation.lines.values()) == pytest.approx(validation.seconds)
    assert not {place for place, one in timing.lines.items() if one} & set(validation.lines)
    assert timing.advice == []
    words = " ".join(render(seen).split())
    assert "now and then" in words
    assert "in 2 of 10 steps, beside what a step does" in words
    assert "In 2 of 10 steps, beside what a step does" in page(seen)


def test_a_step_after_accumulating_is_part_of_each():
    """What belongs to the optimizer's turn counts on average; a log in other turns stands apart."""

    def train_in_parts():
        loader = torch.utils.data.DataLoader(Data(), batch_size=4)
        model = Outer()
        optimizer = Slowly(model.parameters(), lr=0.1)
        for turn, batch in enumerate(loader, 1):
            model(batch).sum().backward()
            if turn % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
                CLOCK.takes(40)
            if turn % 3 == 0:
                CLOCK.takes(90)

    seen = recorded_here(train_in_parts, steps=4, timed=8, clock=CLOCK)
    (timing,) = seen.timings
    assert timing.phases == {
        "fetch": pytest.approx(20e-6),
        "zero_grad": pytest.approx(9e-6 / 4),
        "forward": pytest.approx(52e-6),
        "backward": pytest.approx(50e-6),
        "step": pytest.approx(70e-6 / 4),
        "own Python": pytest.approx(40e-6 / 4),
    }
    (log,) = timing.seldom
    assert (log.turns, log.seconds) == (3, pytest.approx(90e-6))
    assert log.phases == {"own Python": pytest.approx(90e-6)}


def test_an_update_of_every_fourth_call():
    """A line that steps the optimizer in one turn of four takes a fourth of the step, and nothing else."""

    def train_by_a_call():
        loader = torch.utils.data.DataLoader(Data(), batch_size=4)
        model = Outer()
        optimizer = Slowly(model.parameters(), lr=0.1)
        for turn, batch in enumerate(loader, 1):
            model(batch).sum().backward()
            optimizer.step() if turn % 4 == 0 else CLOCK.takes(8)

    seen = recorded_here(train_by_a_call, steps=4, timed=8, clock=CLOCK)
    (timing,) = seen.timings
    assert timing.phases["step"] == pytest.approx(70e-6 / 4)
    assert timing.phases["own Python"] == pytest.approx(8e-6 * 3 / 4)
    assert timing.seconds == pytest.approx(sum(timing.lines.values()))


def test_micro_batches_in_the_order_in_which_they_ran():
    """Losses, graphs and timeline of a step have each of its micro-batches, the first one first."""
    losses = []

    def train_in_parts():
        loader = iter(torch.utils.data.DataLoader(Data(), batch_size=4))
        model = Outer()
        optimizer = Slowly(model.parameters(), lr=0.1)
        for _ in range(4):
            for part in range(3):
                loss = (model(next(loader)) * (part + 1)).sum()
                losses.append(loss.item())
                loss.backward()
            optimizer.step()

    seen = recorded_here(train_in_parts, steps=2, timed=2, clock=CLOCK)
    second = next(one for one in seen.steps if one.number == 2)
    assert second.losses == losses[3:6]
    assert [one.value for one in second.graphs] == losses[3:6]
    (timing,) = seen.timings
    assert [(one.phase, one.seconds) for one in timing.timeline if one.seconds] == [
        *[
            ("fetch", pytest.approx(20e-6)),
            ("forward", pytest.approx(52e-6)),
            ("backward", pytest.approx(50e-6)),
        ]
        * 3,
        ("step", pytest.approx(70e-6)),
    ]


def test_the_timeline_is_one_turn(seen):
    """Of the turn that is nearest to the median, each call where it began and as long as it was."""
    (timing,) = seen.timings
    assert [span.phase for span in timing.timeline] == [
        "fetch", "zero_grad", "forward", "backward", "step"]  # fmt: skip
    turns = {turn: expected(turn) for turn in range(STEPS + 1, STEPS + 1 + TIMED)}
    shown = min(turns, key=lambda turn: abs(sum(turns[turn].values()) / 1e6 - timing.seconds))
    forward = turns[shown]["target = model(batch)"]
    assert [(round(span.began * 1e6, 6), round(span.seconds * 1e6, 6)) for span in timing.timeline] == [
        (0, 20), (20, 9), (29, forward), (29 + forward, 50), (79 + forward, 70)]  # fmt: skip


def test_a_loop_inside_that_trains_is_timed_by_itself():
    """The outer step is without it, in turns where it is recorded and in those where it only runs."""

    def train_both():
        loader = iter(torch.utils.data.DataLoader(Data(), batch_size=4))
        critic, model = Outer(), Outer()
        first = Slowly(critic.parameters(), lr=0.1)
        second = Slowly(model.parameters(), lr=0.1)
        for _ in range(9):
            batch = next(loader)
            for _ in range(5):
                critic(batch).sum().backward()
                first.step()
            model(batch).sum().backward()
            second.step()

    seen = recorded_here(train_both, steps=2, timed=6, clock=CLOCK)
    both = {one.loop: one for one in seen.timings}
    inner = next(at for at, one in enumerate(seen.loops) if one.inside is not None)
    outer = seen.loops[inner].inside
    parts = {
        "forward": pytest.approx(52e-6),
        "backward": pytest.approx(50e-6),
        "step": pytest.approx(70e-6),
    }
    assert both[inner].phases == parts
    assert both[outer].phases == {"fetch": pytest.approx(20e-6), **parts}
    words = f", without the loop at line {seen.loops[inner].line}"
    assert words in " ".join(render(seen).split())
    assert words in page(seen)


def test_the_collector_is_ours():
    """What Python's garbage collector takes by itself is no line's time; one that is asked for is."""
    runs = SPACE["runs"]

    def train_with_garbage():
        gc.callbacks.insert(0, runs)
        loader = torch.utils.data.DataLoader(Data(), batch_size=4)
        model = Outer()
        optimizer = Slowly(model.parameters(), lr=0.1)
        for batch in loader:
            model(batch).sum().backward()
            SPACE["garbage"]()
            optimizer.step()
            gc.collect()

    gc.freeze()  # else each collection walks through all of torch: 6 s
    try:
        seen = recorded_here(train_with_garbage, steps=2, timed=8, clock=CLOCK)
    finally:
        gc.unfreeze()
        gc.callbacks.remove(runs)
    (timing,) = seen.timings
    lines = seen.files[0].text.splitlines()
    found = {
        lines[int(key.partition(":")[2]) - 1].strip(): one for key, one in timing.lines.items()
    }
    assert found["gc.collect()"] == pytest.approx(500e-6)
    assert found['SPACE["garbage"]()'] == 0
    assert timing.phases["own Python"] == pytest.approx(500e-6)


BUSY = library(
    """
import time


def small(x):
    return x + 1


def prepare(count):
    for _ in range(count):
        small(3)


class Wrapped:
    '''What an installed library makes of an optimizer: many small functions around its step.'''

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self):
        prepare(3000)
        self.optimizer.step()


MARKS = []


def marks():
    MARKS.append(time.thread_time())
"""
)


@pytest.mark.long
def test_small_functions_of_a_library_cost_what_they_cost():
    """A step is about as long as one that nobody looks at, though Python traces each call: it was 5 times."""

    def train():
        model = torch.nn.Linear(4, 1)
        optimizer = BUSY["Wrapped"](torch.optim.SGD(model.parameters(), lr=0.01))
        data = torch.ones(8, 4)
        for _ in range(43):
            model(data).sum().backward()
            optimizer.step()
            BUSY["marks"]()

    ratios = []
    for _ in range(3):  # the processor may have been slower in one of two measurements
        BUSY["MARKS"].clear()
        train()
        marks = BUSY["MARKS"]
        alone = median(after - before for before, after in pairwise(marks))
        (timing,) = recorded_here(train, steps=2, timed=20, clock=time.thread_time_ns).timings
        assert not timing.recorded
        ratios.append(timing.seconds / alone)
        if 0.4 < ratios[-1] < 2:
            return
    raise AssertionError(ratios)
