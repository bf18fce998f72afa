"""SIGKILL before every file operation of a whole run, and in the middle of every write."""

from __future__ import annotations

import drawn
import pytest
from bench import Kill, problem

ONE = drawn.REPRESENTATIVE
LOOPS = {
    **ONE, "shape": "two loops", "optimizer": "adamw", "schedule": "update", "precision": "fp16",
    "accumulate": 1, "limits": {"steps": 20},
}  # fmt: skip
FOLDS = {**ONE, "shape": "five folds", "optimizer": "lbfgs", "accumulate": 1, "schedule": "epoch"}
PROGRAMS = {"one loop": ONE, "two loops": LOOPS, "five folds": FOLDS}
EVERY = {"one loop": 1, "two loops": 3, "five folds": 5}
"""All three make the same operations; the longer programs many times as many."""


def count_of(case, settings):
    """How many operations a whole run makes."""
    ending = case(settings).run()
    assert ending.result.rc == 0, ending.result.err
    return ending.control.count


def killed_at(case, whole, settings, numbers, how):
    """Kill one run at each of these operations and go on; what went wrong, by the operation."""
    wrong = {}
    killed = 0
    for number in numbers:
        one = case(settings)
        ending = one.run(**{how: number})
        if not ending.killed:
            continue  # that operation is no write, or this run made fewer
        killed += 1
        found = problem(one, one.run(), whole(settings))
        if found:
            wrong[f"{number} {ending.place} {ending.control.active}"] = found
    return killed, wrong


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(one, id=name, marks=() if name == "two loops" else pytest.mark.long)
        for name, one in PROGRAMS.items()
    ],
)
def test_some_operations(case, whole, settings):
    """Killed before some operations all over the run, it goes on to the same bits."""
    count = count_of(case, settings)
    # The last but two comes after the end's checkpoint: what that restores is all there is.
    numbers = [*range(3, count, count // 6), count - 3]
    killed, wrong = killed_at(case, whole, settings, numbers, "kill_before")
    assert killed > 2
    assert wrong == {}


def test_killed_in_one_loop_and_again_in_the_next(case, whole):
    """What was restored after one kill is saved again, and is there after the next."""
    one = case(LOOPS)
    # After 11 bodies of the second loop a checkpoint of that process is complete, however slow the disk is:
    # a save, every third turn, waits for the one before.
    for bodies in (8, 10, 11):
        assert Kill("mark", place="body", after=bodies).run(one).killed
    assert problem(one, one.run(), whole(LOOPS)) == ""


def test_some_torn_writes(case, whole):
    """With half of a write on the disk, the run goes on to the same bits."""
    settings = drawn.REPRESENTATIVE
    count = count_of(case, settings)
    killed, wrong = killed_at(case, whole, settings, range(5, count, count // 6), "tear")
    assert killed > 1
    assert wrong == {}


def test_torn_lines(case, whole):
    """Half of a line at the end of metrics.jsonl swallows nothing that is written after it."""
    settings = {
        **ONE,
        "checkpoint": "ends",
    }  # no background writes: the operations' numbers are the same
    logged = case(settings)
    assert logged.run(log=True).result.rc == 0
    lines = [op for op in logged.log() if op.kind == "write" and op.path.endswith("metrics.jsonl")]
    assert len(lines) >= 2
    for line in lines:
        one = case(settings)
        assert one.run(tear=line.number).killed
        torn = next(one.work.rglob("metrics.jsonl")).read_bytes()
        assert not torn.endswith(b"\n")
        assert problem(one, one.run(), whole(settings)) == "", str(line)
        assert problem(one, one.run(), whole(settings)) == "", f"{line}, read back"


@pytest.mark.long
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_operation(case, whole, name):
    """Killed before any operation (of longer programs: some), the run goes on to the same bits."""
    settings = PROGRAMS[name]
    numbers = range(0, count_of(case, settings), EVERY[name])
    killed, wrong = killed_at(case, whole, settings, numbers, "kill_before")
    assert killed > 0.9 * len(numbers)
    assert wrong == {}


@pytest.mark.long
def test_every_torn_write(case, whole):
    """With half of any write on the disk, the run goes on to the same bits."""
    settings = drawn.REPRESENTATIVE
    count = count_of(case, settings)
    killed, wrong = killed_at(case, whole, settings, range(count), "tear")
    assert killed > count // 3
    assert wrong == {}
