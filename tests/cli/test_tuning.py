"""``train --tune``: what is tried, what is chosen, and what is written."""

from __future__ import annotations

import json
import re
import tomllib
from types import SimpleNamespace

import pytest
import torch

from loopwright.cli import tuning
from loopwright.cli.train import understand
from loopwright.cli.training import prepare
from loopwright.cli.tuning import Timer, Trial
from loopwright.denormals import are_flushed
from loopwright.errors import LoopwrightError, LoopwrightWarning


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """``machine(words, {words of a trial: ms})``: tune on a machine where trials take these times."""

    def tune(words, times):
        seen = []

        def trial(asked, tell):
            seen.append(" ".join(asked[1:]))
            found = times[seen[-1]]
            if isinstance(found, Exception):
                raise found
            return Trial(found / 1e3, 300.0, 100, (f"a note of {found}",))

        monkeypatch.setattr(tuning, "_trial", trial)
        monkeypatch.setattr(tuning, "thread_counts", lambda: [1, 2, 4])
        asked = understand(words)
        tuning.tune(asked, prepare(asked))
        return seen

    monkeypatch.chdir(tmp_path)
    return tune


def test_one_after_the_other(machine, tmp_path, capsys):
    """Each setting is tried on top of those that helped; the fastest ones are written to a file."""
    times = {
        "": 4.0, "--threads 2": 3.0, "--threads 4": 2.9, "--threads 2 --fused": 2.5,
        "--threads 2 --fused --flush-denormal": 2.2,
        "--threads 2 --fused --flush-denormal --precision bf16": 5.0,
        "--threads 2 --fused --flush-denormal --capture exact": 1.5,
        "--threads 2 --flush-denormal --capture fast": 1.0,
        "--threads 2 --flush-denormal --precision bf16 --capture fast": 0.99,
    }  # fmt: skip
    assert torch.get_num_threads() == 1
    seen = machine(["digits", "--tune"], times)
    assert seen == [*times, ""]
    written = tomllib.loads((tmp_path / "digits-tuned.toml").read_text())
    assert written["recipe"] == "digits"
    assert (written["threads"], written["capture"]) == (2, "fast")
    assert written["flush_denormal"] is True
    assert "precision" not in written
    asked = understand([str(tmp_path / "digits-tuned.toml")])
    assert (asked.loop.threads, asked.loop.capture) == (2, "fast")
    out = capsys.readouterr().out
    assert "fastest: --threads 2 --flush-denormal --capture fast" in out
    assert "a note of 1.0" in out


def test_what_was_given_is_not_tried(machine, tmp_path):
    """Flags of the command line stay as they are, and a file that is there is not written over."""
    (tmp_path / "digits-tuned.toml").write_text("# mine\n")
    given = "--threads 1 --precision bf16 --clip value:0.5 --steps 900 --lr 0.01"
    words = ["digits", *given.split(), "--tune"]
    times = {
        given: 4.0, f"{given} --fused": 3.0, f"{given} --fused --flush-denormal": 3.0,
        f"{given} --fused --capture exact": 2.0,
        f"{given} --capture fast": 1.99,
    }  # fmt: skip
    machine(words, times)
    assert (tmp_path / "digits-tuned.toml").read_text() == "# mine\n"
    written = tomllib.loads((tmp_path / "digits-tuned-2.toml").read_text())
    assert (written["lr"], written["capture"], written["fused"]) == (0.01, "exact", True)
    asked = understand([str(tmp_path / "digits-tuned-2.toml")])
    assert (asked.loop.fused, asked.loop.threads, asked.loop.precision) == (True, 1, "bf16")
    assert (asked.loop.clip, asked.loop.steps) == ("value:0.5", 900)
    assert "epochs" not in written


def test_nothing_helps(machine, tmp_path, capsys):
    """What is not clearly faster, or fails, is not chosen, and no file is written."""
    times = {
        "": 1.0, "--threads 2": 0.99, "--threads 4": LoopwrightError("failed: no memory", slug="x"),
        "--fused": 1.0, "--flush-denormal": 1.0,
        "--precision bf16": 1.5, "--capture exact": 0.97, "--capture fast": 1.0,
        "--precision bf16 --capture fast": 1.2,
    }  # fmt: skip
    machine(["digits", "--tune"], times)
    assert list(tmp_path.iterdir()) == []
    captured = capsys.readouterr()
    assert "nothing is clearly faster" in captured.out
    assert "--threads 4: failed: no memory" in captured.err


def test_two_that_help_together(machine, tmp_path):
    """bf16 by itself is slower, and in a fast step the fastest; nothing is tried twice."""
    times = {
        "": 4.0, "--threads 2": 4.0, "--threads 4": 4.0, "--fused": 4.0, "--flush-denormal": 4.1,
        "--precision bf16": 4.2, "--capture exact": 4.0, "--capture fast": 3.9,
        "--precision bf16 --capture fast": 2.0,
    }  # fmt: skip
    assert machine(["digits", "--tune"], times) == [*times, ""]
    written = tomllib.loads((tmp_path / "digits-tuned.toml").read_text())
    assert (written["precision"], written["capture"]) == ("bf16", "fast")
    seen = machine(
        ["digits", "--tune"],
        times | {"--precision bf16": 3.0, "--precision bf16 --capture exact": 3.0},
    )
    assert seen.count("--precision bf16 --capture fast") == 1


TRIAL = """\
import dataclasses, json
from loopwright.cli import tuning
from loopwright.denormals import are_flushed
from loopwright.errors import LoopwrightError, LoopwrightWarning
tuning.SECONDS = 0.3
told = []
trial = tuning._trial(["digits", "--capture", "exact"], told.append)
try:
    tuning._trial(["digits", "--hiden", "3"], told.append)
except LoopwrightError as error:
    print(json.dumps([dataclasses.asdict(trial), told, str(error)]))
"""


def test_a_trial_trains_and_keeps_nothing(run_program, tmp_path):
    """A real one: a process that trains for a moment, with the note of its capture."""
    done = run_program(["-c", TRIAL], cwd=tmp_path, warm_children=True)
    assert done.rc == 0, done.err
    trial, told, error = json.loads(done.out)
    assert trial["turns"] >= 4
    assert 0 < trial["seconds"] < 60
    assert 50 < trial["memory"] < 5000
    assert told[0].endswith("ms  digits --capture exact")
    assert list(tmp_path.iterdir()) == []
    assert re.search(r"failed: .*unknown flag --hiden", error)


def test_channels_last(tmp_path):
    """``--channels-last`` lays a model's images and filters out that way; ``--threads`` is set."""
    words = ["digits", "--channels-last", "--threads", "1"]
    asked = understand(words)
    job = prepare(asked)
    filters = [p for p in job.model.parameters() if p.dim() == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in filters)


def test_the_timer_needs_two_updates():
    """A trial in which nothing was updated says so."""
    with pytest.raises(LoopwrightError, match="no two updates"):
        Timer(1.0).result()


def test_the_timer_looks_now_and_then(monkeypatch):
    """Turns between two looks share their time; one look that took long does not end the trial."""
    clock = iter([0.0, 0.5, 20.0, 20.5, 21.0, 21.5])
    monkeypatch.setattr(tuning, "perf_counter", lambda: next(clock))
    stopped = []
    run = SimpleNamespace(stop=stopped.append)
    timer = Timer(3.0)
    for turn in (10, 60, 65, 165, 265, 365):  # 10 ms each at first, one that compiles, 5 ms each
        assert not stopped
        timer._look(SimpleNamespace(turn=turn, run=run))
    assert stopped == ["the trial is over"]
    seconds, turns = timer.result()
    assert seconds == pytest.approx(0.005)
    assert turns == 355


def test_fused(tmp_path):
    """``--fused`` lets the recipe's optimizer update by torch's fused kernel."""
    job = prepare(understand(["digits", "--fused"]))
    assert job.optimizer.param_groups[0]["fused"]


def test_flush_denormal():
    """``--flush-denormal`` is set before the recipe computes anything."""
    assert not are_flushed()
    try:
        prepare(understand(["digits", "--flush-denormal"]))
        assert are_flushed()
    finally:
        torch.set_flush_denormal(False)


def test_flush_denormal_that_does_not_reach_all_threads(monkeypatch):
    """Threads that torch had begun before, or a processor without the switch: it is said, and trained."""
    monkeypatch.setattr("loopwright.denormals.flush", lambda: False)
    with pytest.warns(
        LoopwrightWarning, match=r"no effect on some threads.*\[denormals-not-flushed\]"
    ):
        assert prepare(understand(["digits", "--flush-denormal"])).model is not None
