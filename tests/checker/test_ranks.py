"""Mistakes of distributed training, in two processes, merged into one report."""

from __future__ import annotations

import json
import os

import pytest

from checker.watched import PROGRAMS
from loopwright.checker import merge
from loopwright.observe import process

PROGRAM = PROGRAMS / "ranks" / "training.py"
LINES = {
    "ddp-bypassed": "model.module(inputs)",
    "ddp-missing-set-epoch": "in loader:",
    "ddp-duplicate-data": "in loader:",
    "ranks-diverge": "model = DDP(",
}


ORDERS = PROGRAMS / "ranks" / "collectives.py"
SENDS = PROGRAMS / "ranks" / "sends.py"
OBSERVED = """
import runpy, sys
from loopwright.checker.process import start
start()
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.long
@pytest.mark.parametrize("mistake", [*LINES, "nothing"])
def test_two_ranks(run_cli, tmp_path, mistake):
    """Each mistake is found once, at its line, by both ranks together; none without one."""
    found = tmp_path / "found.json"
    done = run_cli("check", f"--json={found}", PROGRAM, mistake, cwd=tmp_path)
    record = json.loads(found.read_text())
    assert record["observed"]["processes"] >= 2
    assert record["observed"]["steps"] in (24, 48)
    told = [
        (one["rule"], one["line"], sorted(one["ranks"]))
        for one in record["findings"]
        if one["severity"] != "hint"
    ]
    if mistake == "nothing":
        assert told == []
        assert done.rc == 0
        return
    ((rule, line, ranks),) = told
    assert rule == mistake
    assert LINES[mistake] in PROGRAM.read_text().splitlines()[line - 1]
    assert ranks == [0, 1]
    assert done.rc == 1


@pytest.fixture
def collectives(run_cli, tmp_path):
    """``collectives(kind, ranks)``: errors and warnings with the text of their lines, notes, and the end."""

    def check(kind, ranks):
        found = tmp_path / "found.json"
        done = run_cli(
            "check", f"--json={found}", ORDERS, kind, str(ranks), cwd=tmp_path, timeout=120
        )
        record = json.loads(found.read_text())
        told = [
            (one["rule"], ORDERS.read_text().splitlines()[one["line"] - 1].strip(), one)
            for one in record["findings"]
            if one["severity"] != "hint"
        ]
        return told, record["notes"], done

    return check


def test_values_that_are_mixed_up_in_silence(run_program, tmp_path):
    """One rank adds up floats and the other one integers: both end, and it is found."""
    env = {**os.environ, process.FOLDER: str(tmp_path)}
    done = run_program(["-c", OBSERVED, str(ORDERS), "another type", "2"], cwd=tmp_path, env=env)
    assert done.rc == 0, done.err
    record = merge.read(tmp_path)
    (found,) = record.findings
    assert (found.rule, found.ranks) == ("collective-mismatch", [0, 1])
    assert "# typed" in ORDERS.read_text().splitlines()[found.place.line - 1]
    assert "rank 0 called all_reduce() of 1 float32 value (SUM), rank 1" in found.message
    assert (record.notes, record.files) == ([], [str(ORDERS)])


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "ranks", "line"),
    [
        ("another order", 2, "dist.all_reduce(parameter.grad)  # averaged"),
        ("another order", 3, "dist.all_reduce(parameter.grad)  # averaged"),
        ("one more, in silence", 2, "dist.all_reduce(torch.full((1,), 100.0))"),
        ("no partner", 2, "dist.barrier()"),
        ("no partner", 3, "dist.barrier()"),
        ("another type", 3, "dist.all_reduce(counted)  # typed"),
        ("barrier beside ddp", 2, "dist.barrier()"),
    ],
)
def test_orders_that_differ(collectives, kind, ranks, line):
    """Found once, at the line that one rank alone comes to, beside the program's own failure."""
    ((rule, text, found),), _, done = collectives(kind, ranks)
    assert (rule, text, found["ranks"]) == ("collective-mismatch", line, [*range(ranks)])
    assert done.rc != 0


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(
    ("kind", "line", "one", "other"),
    [
        ("swapped functions", "dist.all_reduce(value)", "add(", "dist.all_reduce(value) in add("),
        ("swapped lines", "dist.all_reduce(loss)  # first", "dist.all_reduce(loss)", "dist.all_reduce(hits)"),
        ("swapped callers", "dist.all_reduce(value)", "sum_of_losses(loss)", "sum_of_losses(hits)"),
    ],
)  # fmt: skip
def test_sums_in_another_order(collectives, kind, line, one, other, ranks):
    """Two sums of one size that a rank makes in another order: they end, with each other's values."""
    ((rule, text, found),), notes, done = collectives(kind, ranks)
    assert (rule, text, notes, done.rc) == ("collective-mismatch", line, [], 1)
    assert "make the same sums in another order" in found["message"]
    assert one in found["message"]
    assert other in found["message"]


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(
    "kind", ["nothing", "much", "met again", "launched twice", "uneven ends under join", "in turn"]
)
def test_one_order(collectives, kind, ranks):
    """Messages, groups, threads, handles, roots in turn, another launch, a rank that joins: no word."""
    told, notes, done = collectives(kind, ranks)
    assert (told, notes, done.rc) == ([], [], 0)


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(
    "kind",
    [
        "sums_of_a_set", "sums_of_a_listed_set", "sums_of_a_dict", "gathered_by_name", "gradients_of_a_dict",
        "gradients_in_reverse", "weights_of_a_dict", "weights_of_a_state", "gathered_lines",
        "sums_around_a_barrier", "sums_that_are_awaited", "right",
    ],
)  # fmt: skip
def test_the_same_calls_in_another_order(run_cli, tmp_path, kind, ranks):
    """Found at the line that is marked; no word on programs that only look like it."""
    found = tmp_path / "found.json"
    done = run_cli("check", f"--json={found}", SENDS, kind, str(ranks), cwd=tmp_path, timeout=120)
    record = json.loads(found.read_text())
    told = [one for one in record["findings"] if one["severity"] != "hint"]
    if kind == "right":
        assert (told, record["notes"], done.rc) == ([], [], 0)
        return
    (one,) = told
    assert (one["rule"], done.rc) == ("collective-mismatch", 1)
    assert "# wrong" in SENDS.read_text().splitlines()[one["line"] - 1]
    assert one["ranks"] == [*range(2 if kind == "sums_that_are_awaited" else ranks)]


@pytest.mark.long
def test_where_the_others_waited(collectives):
    """A rank that fails by itself is no mistake of order; a note says where another one waited for it."""
    told, notes, done = collectives("an exception of its own", 3)
    assert told == []
    assert done.rc == 1
    (note,) = notes
    assert "all_reduce() of 1 float32 value (SUM) (collectives.py:20)" in note
