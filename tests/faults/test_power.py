"""Power cuts in the middle of a run: whatever the disk may then hold, the run goes on to the same bits."""

from __future__ import annotations

import hashlib
import random
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import PurePath
from typing import NamedTuple

import drawn
import power
import pytest
from bench import differences, problem

SETTINGS = drawn.REPRESENTATIVE
SAVED = re.compile(r"/checkpoints/loop-0-(?:turn-(\d+)|end)$")
CHOICES = (*power.FIXED, *power.RANDOM)
TURNS = 16


class Cut(NamedTuple):
    """A power cut before an operation, one state that the disk may be in, and what was complete by then."""

    label: str
    state: dict[str, bytes | None]
    turn: int


class After(NamedTuple):
    """What the same command came to after a cut."""

    cut: Cut
    problem: str
    differing: list[str]
    first_turn: int


def cuts(one, numbers: Collection[int]) -> Iterator[Cut]:
    """Every different state that a power cut before one of these operations can leave."""
    generator = random.Random(0)
    disk, seen = power.Disk(one.work), set()
    turn = last = 0
    for operation in one.log():
        for choose in CHOICES if operation.number in numbers else ():
            state = choose(disk) if choose in power.FIXED else choose(disk, generator)
            key = (hashlib.sha256(repr(sorted(state.items())).encode()).digest(), turn)
            if key not in seen:
                seen.add(key)
                yield Cut(f"{choose.__name__} before {operation}", state, turn)
        disk.apply([operation])
        # A checkpoint is complete when its name is in place and synced, at the latest when the next begins.
        if operation.kind == "rename" and (name := SAVED.search(operation.second)):
            last = int(name[1] or TURNS)
        if (operation.kind == "fsync folder" and operation.path.endswith("/checkpoints")) or (
            operation.kind == "mkdir" and "/.tmp-loop-" in operation.path
        ):
            turn = last
    assert turn == TURNS


def go_on(bench, whole, logged, numbers, every=1) -> list[After]:
    """Cut the power at these operations, in every way, and run the same command again.

    ``every`` thins out each choice for itself: how many different states a choice comes to depends on
    when the run's threads wrote, so every second of all may leave a whole choice out.
    """
    found = []
    by_choice: dict[str, list[Cut]] = {}
    for cut in cuts(logged, numbers):
        by_choice.setdefault(cut.label.partition(" ")[0], []).append(cut)
    for number, cut in enumerate(cut for chosen in by_choice.values() for cut in chosen[::every]):
        one = bench.case(f"cut-{number}", SETTINGS)
        power.write(cut.state, one.work)
        ending = one.run()
        differing = [] if ending.result.rc else differences(whole(SETTINGS).result, one.result())
        found.append(
            After(cut, problem(one, ending, whole(SETTINGS)), differing, ending.control.first_turn)
        )
        shutil.rmtree(one.folder)
    return found


def other_bits(found: list[After]) -> dict[str, list[str] | str]:
    """Cuts after which something differs, or nothing runs; curves and epoch rows left out."""
    wrong: dict[str, list[str] | str] = {}
    for after in found:
        paths = [p for p in after.differing if not p.startswith(("one/curves", "one/epochs"))]
        if paths or (after.problem and not after.differing):
            wrong[after.cut.label] = paths[:5] or after.problem
    return wrong


def too_early(found: list[After]) -> dict[str, str]:
    """Cuts after which the run went on from before a checkpoint that had been completed."""
    return {
        after.cut.label: f"turn {after.first_turn} with {after.cut.turn} completed"
        for after in found
        if 0 <= after.first_turn < after.cut.turn
    }


def other_history(found: list[After]) -> dict[str, str]:
    """Cuts after which a curve or an epoch's row differs."""
    return {
        after.cut.label: after.problem
        for after in found
        if any(path.startswith(("one/curves", "one/epochs")) for path in after.differing)
    }


@pytest.fixture(scope="module")
def logged(bench):
    """A whole run with its log."""
    one = bench.case("power", SETTINGS)
    assert one.run(log=True).result.rc == 0
    return one


@pytest.fixture(scope="module")
def some(bench, whole, logged, request):
    """Power cuts right after each kind's last rename, and some between; of the states half in a quick run."""
    log = logged.log()
    by_name: dict[str, list[int]] = {}
    for operation in log:
        if operation.kind == "rename":
            name = re.sub(r"\d+", "", PurePath(operation.second).name)
            by_name.setdefault(name, []).append(operation.number + 1)
    ends = {numbers[-1] for numbers in by_name.values()}
    every = 2 if request.config.getoption("-m") == "not long" else 1
    return go_on(bench, whole, logged, {*ends, *range(50, len(log), len(log) // 2)}, every)


def test_every_choice_is_made(logged):
    """A cut gives many states: with and without names, data, zeros, in a journal's order and in any."""
    count = len(logged.log())
    labels = [cut.label for cut in cuts(logged, range(count // 16, count, 20))]
    for choose in CHOICES:
        assert any(label.startswith(choose.__name__) for label in labels), choose
    assert len(labels) > count // 10


def test_power_cuts(some):
    """After a power cut the run goes on to the same bits."""
    assert len(some) > 20
    assert {after.cut.label.partition(" ")[0] for after in some} == {
        one.__name__ for one in CHOICES
    }
    assert other_bits(some) == {}


def test_a_completed_checkpoint_is_not_lost(some):
    """What was complete before the power cut is what the run goes on from, however much else is lost."""
    assert max(after.cut.turn for after in some) > TURNS // 2
    assert too_early(some) == {}


def test_the_history_up_to_a_checkpoint_is_not_lost(some):
    """Curves and epoch rows go as far back as the turns that need not be trained again."""
    assert other_history(some) == {}


@pytest.mark.long
def test_every_power_cut(bench, whole, logged):
    """The same for a power cut before any operation of the run."""
    found = go_on(bench, whole, logged, range(len(logged.log())))
    assert len(found) > 1000
    assert (other_bits(found), too_early(found), other_history(found)) == ({}, {}, {})
