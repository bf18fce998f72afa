"""A fix removes its finding and adds none: over every faulty program that has one."""

from __future__ import annotations

import os
import shutil
import time
import tomllib
from pathlib import Path

import pytest

from checker.watched import PROGRAMS, expected, watch
from loopwright.checker import merge
from loopwright.checker.fixes.propose import FIXES, propose, write
from loopwright.cli.fixing import problem

CORPUS = PROGRAMS.parent / "corpus"
QUICK = {
    "missing-zero-grad/gan_faulty",
    "eval-in-train-mode/faulty",
    "clip-without-unscale/faulty",
    "scheduler-wrong-frequency/reverse_faulty",
}
UNSURE = {
    "clip-misplaced/spent_faulty": "the clipping stands in its place; an iterator has nothing left for it",
    "clip-misplaced/within_faulty": "it would go under a condition of the program's, before the step",
    "clip-without-unscale/by_hand_faulty": "the gradients are scaled by the program's own lines",
    "double-softmax/two_columns_faulty": "the probabilities are put together by hand",
    "lr-assignment-ignored/defaults_faulty": "the groups' rates may be meant to differ",
    "loss-broadcast/by_hand_faulty": "either side may be meant to have the other's shape",
    "loss-broadcast/huber_by_hand_faulty": "either side may be meant to have the other's shape",
    "loss-broadcast/smooth_faulty": "the prediction is no variable, and a model is not to be called twice",
}
FAULTY = [
    path
    for path in sorted(PROGRAMS.rglob("*faulty.py"))
    if path.parent.name in FIXES and path.parent.name != "ddp-missing-set-epoch"
]
SHARED = sorted(Path(os.environ.get("LOOPWRIGHT_CASES", "/nonexistent")).glob("check/*/case.toml"))


def name_of(path):
    """``rule/program``."""
    return f"{path.parent.name}/{path.stem}"


def record(run_program, path, folder):
    """What a program's observation came to, as the command line has it."""
    folder.mkdir()
    seen = watch(run_program, path, folder / "found.json")
    assert seen.problems == []
    return merge.read(folder)


def fix(run_program, program, folder):
    """Check, fix, check again: the proposal, and what is still wrong then."""
    before = record(run_program, program, folder / "before")
    proposal = propose(before, program.parent, time.time() + 1)
    for one in proposal.rewrites:
        write(one.path, one.before, one.after)
    print(proposal.diff())
    after = record(run_program, program, folder / "after")
    return proposal, problem(before, after, proposal)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path, id=name_of(path), marks=[] if name_of(path) in QUICK else [pytest.mark.long]
        )
        for path in FAULTY
    ],
)
def test_pair(path, run_program, tmp_path):
    """The fixed program runs to its end, and nothing is left of the mistake."""
    program = tmp_path / path.name
    shutil.copy(path, program)
    proposal, wrong = fix(run_program, program, tmp_path)
    if name_of(path) in UNSURE:
        assert proposal.fixed == []
        return
    assert {rule for rule, _ in expected(path)} <= {one.rule for one in proposal.fixed}
    assert wrong is None


@pytest.mark.long
def test_a_measurement_in_a_generator_between_epochs(run_program, tmp_path):
    """Its mode is its own to set, and training goes back to its own in each epoch."""
    (source,) = CORPUS.glob("150-*/buggy.py")
    program = tmp_path / "train.py"
    shutil.copyfile(source, program)
    proposal, wrong = fix(run_program, program, tmp_path)
    assert [one.rule for one in proposal.fixed] == ["eval-in-train-mode"]
    assert wrong is None
    added = [one[1:] for one in proposal.diff().splitlines()[2:] if one.startswith(("+", "-"))]
    assert added == ["    model.eval()", "        model.train()"]


def test_every_rule_with_a_fix_is_tested():
    """There is a program for each; the sampler's epoch, which needs ranks, is tested with them."""
    tested = {path.parent.name for path in FAULTY if name_of(path) not in UNSURE}
    assert set(FIXES) - tested <= {"ddp-missing-set-epoch", "loss-broadcast"}


@pytest.mark.long
@pytest.mark.skipif(not SHARED, reason="LOOPWRIGHT_CASES names no folder with cases")
@pytest.mark.parametrize("case", SHARED, ids=lambda case: case.parent.name)
def test_case(case, run_program, tmp_path):
    """Programs that others wrote: fixed where the fix is sure, else left as they are."""
    source = case.parent / "buggy.py"
    if "mp.spawn" in source.read_text():
        pytest.skip("it starts processes of its own")
    program = tmp_path / "train.py"
    shutil.copyfile(source, program)
    rule = tomllib.loads(case.read_text())["rule"]
    proposal, wrong = fix(run_program, program, tmp_path)
    if rule in FIXES:
        assert wrong is None
        assert rule in {one.rule for one in proposal.fixed}
    else:
        assert program.read_bytes() == source.read_bytes()
