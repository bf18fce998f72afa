"""What the same command again means: resumed, extended, refused, put aside; and what is in the folder."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import warnings
from pathlib import Path

import pytest
import torch
from small import equal, loader, make, network, train, turn, weights
from torch import nn

import loopwright as lw
from loopwright.errors import CheckpointError, DataError, DiskError, LoopwrightWarning, UsageError
from loopwright.train.folder import reading
from loopwright.train.folder.reading import choose, read_run

EVERY_TURN = lw.Checkpoint(every_steps=1)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its bytes; the lock's says who came last, and is left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def adam(**settings):
    """An optimizer with state, as a function."""
    return lambda params: torch.optim.Adam(params, **{"lr": 0.01, **settings})


def refused(call) -> CheckpointError:
    """The error that a call is refused with; its exit code is 3."""
    with pytest.raises(CheckpointError) as caught:
        call()
    assert caught.value.exit_code == 3
    return caught.value


# -- the folder itself ----------------------------------------------------------------------------


def test_nothing_is_written_without_out(tmp_path, monkeypatch):
    """Without out= nothing is written anywhere."""
    monkeypatch.chdir(tmp_path)
    run = make()
    train(run)
    run.close()
    assert list(tmp_path.iterdir()) == []
    assert run.folder is None


def test_files_of_a_run(tmp_path):
    """A finished run leaves the documented files, and no temporary ones."""
    run = make(tmp_path / "run")
    train(run, epochs=2)
    run.close()
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        ".lock",
        "checkpoints",
        "final.safetensors",
        "metrics.jsonl",
        "outcome.json",
        "report.html",
        "run.json",
    }


def test_what_was_asked(tmp_path):
    """run.json says what was asked, by which command, and under what it ran."""
    run = make(tmp_path / "run", settings={"hidden": 8, "epochs": 2}, accumulate=2, clip=1.0)
    train(run)
    run.close()
    asked = json.loads((tmp_path / "run" / "run.json").read_text())
    assert asked["format"] == 1
    assert asked["name"] == "run"
    assert asked["asked"] == {"hidden": 8, "epochs": 2}
    assert asked["settings"]["accumulate"] == 2
    assert asked["settings"]["clip"] == 1.0
    assert asked["environment"]["threads"] == torch.get_num_threads()
    assert asked["environment"]["torch"] == torch.__version__
    assert asked["model"]["parameters"] == 4


def test_made_at_the_first_loop(tmp_path):
    """The folder is made when the first loop begins, its parents too; Run() alone leaves nothing."""
    run = make(tmp_path / "deep" / "er" / "run")
    assert not (tmp_path / "deep").exists()
    train(run)
    assert (tmp_path / "deep" / "er" / "run" / "run.json").exists()


def test_no_folder_after_a_refused_loop(tmp_path):
    """A loop that is refused before its first turn leaves no folder."""
    run = make(tmp_path / "run")
    with pytest.raises(DataError):
        run.loop([], epochs=1)
    with pytest.raises(UsageError):
        run.loop(loader(), epochs=0)
    run.close()
    assert list(tmp_path.iterdir()) == []


class Unsavable:
    """Its state cannot be stored."""

    def state_dict(self):
        return {"x": object()}

    def load_state_dict(self, state):
        raise AssertionError


def test_no_folder_after_a_failed_start(tmp_path):
    """A start that fails while the folder is made takes it away again."""
    run = make(tmp_path / "run")
    run.track("x", Unsavable())
    with pytest.raises(UsageError):
        train(run)
    run.close()
    assert list(tmp_path.iterdir()) == []


def test_empty_folder_after_a_failed_start(tmp_path):
    """A folder that was there and empty is empty again, and is still good for a run."""
    (tmp_path / "run").mkdir()
    run = make(tmp_path / "run")
    run.track("x", Unsavable())
    with pytest.raises(UsageError):
        train(run)
    run.close()
    assert contents(tmp_path / "run") == {}
    train(make(tmp_path / "run", accumulate=2))


def test_user_files_are_left_alone(tmp_path):
    """A failed start deletes nothing that it did not write."""
    (tmp_path / "run").mkdir()
    run = make(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    run.track("x", Unsavable())
    with pytest.raises(UsageError):
        train(run)
    run.close()
    assert contents(tmp_path / "run") == {"notes.txt": b"mine"}


def test_folder_with_other_files(tmp_path):
    """A folder that holds other files and no run is refused, and nothing in it is touched."""
    (tmp_path / "thesis.tex").write_text("mine")
    for resume in ("auto", "never"):
        with pytest.raises(UsageError) as caught:
            make(tmp_path, resume=resume)
        assert caught.value.slug == "folder-not-empty"
    assert contents(tmp_path) == {"thesis.tex": b"mine"}


def test_out_is_a_file(tmp_path):
    """A file is no folder: refused, the file as it was."""
    (tmp_path / "model.pt").write_text("mine")
    for out in (tmp_path / "model.pt", tmp_path / "model.pt" / "deeper"):
        with pytest.raises(UsageError) as caught:
            make(out)
        assert caught.value.slug == "out-is-a-file"
        assert caught.value.exit_code == 2
    assert (tmp_path / "model.pt").read_text() == "mine"


def test_cannot_be_written(tmp_path, monkeypatch):
    """A folder without permission is refused before any work."""
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(DiskError) as caught:
        make(tmp_path / "run")
    assert caught.value.slug == "cannot-write"
    assert caught.value.exit_code == 4


def test_killed_before_run_json(tmp_path):
    """What a start that was killed early leaves behind does not stand in the way."""
    (tmp_path / ".lock").write_text("")
    (tmp_path / ".tmp-run.json").write_text('{"form')
    train(make(tmp_path))


def test_killed_before_the_first_checkpoint(tmp_path):
    """A folder with run.json and no checkpoint begins at the beginning."""
    run = make(tmp_path / "run")
    train(run)
    run.close()
    expected = weights(run)
    for path in (tmp_path / "run").iterdir():
        if path.name == "checkpoints":
            for child in sorted(path.rglob("*"), reverse=True):
                child.unlink() if child.is_file() else child.rmdir()
        elif path.name not in ("run.json", ".lock"):
            path.unlink()
    again = make(tmp_path / "run")
    assert len(train(again)) == 6
    assert equal(weights(again), expected)


def test_newer_version(tmp_path):
    """A folder of a newer version is refused, and left as it was."""
    (tmp_path / "run.json").write_text('{"format": 99}')
    error = refused(lambda: make(tmp_path))
    assert error.slug == "newer-version"
    assert contents(tmp_path) == {"run.json": b'{"format": 99}'}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\x00\x01"])
def test_not_a_run(tmp_path, text):
    """A run.json that is none is refused, and left as it was."""
    (tmp_path / "run.json").write_text(text)
    assert refused(lambda: make(tmp_path)).slug == "not-a-run"
    assert (tmp_path / "run.json").read_text() == text


# -- the same command again -----------------------------------------------------------------------


def test_finished_run_again(tmp_path):
    """A finished run yields nothing, has the state of its end, and changes no file."""
    run = make(tmp_path / "run", optimizer=adam())
    train(run, epochs=2)
    run.log(test_accuracy=0.5)
    run.close()
    before = contents(tmp_path / "run")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.name != ".lock"}

    again = make(tmp_path / "run", optimizer=adam())
    assert train(again, epochs=2) == []
    again.log(test_accuracy=0.5)
    again.close()
    assert equal(weights(run), weights(again))
    assert contents(tmp_path / "run") == before
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert again.totals == run.totals
    assert (again.outcome.kind, again.outcome.reason) == ("finished", run.outcome.reason)


def test_unfinished_run_goes_on(tmp_path, capsys):
    """An unfinished run goes on at its newest checkpoint, and one line says so."""
    with pytest.raises(KeyError), make(tmp_path / "run", checkpoint=EVERY_TURN) as run:
        for step in run.loop(loader(), epochs=2):
            turn(run, step)
            if step.index == 8:
                raise KeyError
    assert json.loads((tmp_path / "run/outcome.json").read_text())["outcome"]["kind"] == "failed"
    capsys.readouterr()
    again = make(tmp_path / "run", checkpoint=EVERY_TURN, progress=True)
    steps = train(again, epochs=2)
    assert [step.index for step in steps] == [8, 9, 10, 11]
    assert "resumed at turn 8 (epoch 2)" in capsys.readouterr().err
    assert again.totals["turns"] == 12


def test_new_run_says_so(tmp_path, capsys):
    """A new run is announced in one line, with its folder."""
    train(make(tmp_path / "run", progress=True))
    err = capsys.readouterr().err
    assert err.count("new run") == 1
    assert str(tmp_path / "run") in err


class Dropping(nn.Module):
    """Draws at each forward."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, x):
        return self.net(x)


def long_run(out, seed=0, **limits):
    """Train with dropout, shuffling and Adam; returns weights and the next draw."""
    lw.seed(seed)
    run = make(out, model=Dropping(), optimizer=adam())
    batches = loader(samples=22, shuffle=True)
    turns = len(train(run, batches, **limits))
    run.close()
    return turns, [*weights(run), torch.rand(2)]


@pytest.mark.parametrize(
    ("short", "long", "more"),
    [
        ({"epochs": 1}, {"epochs": 3}, 12),
        ({"steps": 4}, {"steps": 15}, 11),
        ({"steps": 6}, {"epochs": 2}, 6),
        ({"epochs": 1}, {"steps": 9}, 3),
        ({"samples": 20}, {"samples": 60}, 11),
    ],
)
def test_extended(tmp_path, short, long, more):
    """More epochs or steps alone extend a finished run: the same bits as a longer run at once."""
    long_run(tmp_path / "run", **short)
    turns, extended = long_run(tmp_path / "run", **long)
    whole, expected = long_run(None, **long)
    assert turns == more
    assert whole > turns
    assert equal(extended, expected)
    assert read_run(tmp_path / "run").totals["turns"] == whole


def test_extended_shows_what_was_asked(tmp_path):
    """After an extension run.json holds the new length."""
    for epochs in (1, 2):
        run = make(tmp_path / "run", settings={"epochs": epochs})
        train(run, epochs=epochs)
        run.close()
    asked = json.loads((tmp_path / "run" / "run.json").read_text())
    assert asked["asked"] == {"epochs": 2}
    assert asked["settings"]["epochs"] == 2


def test_extended_schedule_warns(tmp_path):
    """An extension that changes a schedule's length warns."""
    for epochs in (1, 2):
        run = make(tmp_path / "run", scheduler=lw.warmup_cosine(0.1))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            train(run, epochs=epochs)
        run.close()
        assert [w.category for w in seen] == [LoopwrightWarning] * (epochs - 1)


@pytest.mark.parametrize(
    ("long", "short"),
    [({"epochs": 3}, {"epochs": 2}), ({"steps": 9}, {"steps": 8}), ({"epochs": 2}, {"steps": 6})],
)
def test_shorter_is_refused(tmp_path, long, short):
    """Less than was trained is refused: what is there is not what is asked for."""
    long_run(tmp_path / "run", **long)
    before = contents(tmp_path / "run")
    error = refused(lambda: long_run(tmp_path / "run", **short))
    assert error.slug == "another-run"
    assert next(iter(short)) in str(error)
    assert contents(tmp_path / "run") == before


def test_earlier_loop_extended(tmp_path):
    """When an earlier loop is extended, the later ones are trained anew from what it leaves."""

    def program(out, epochs):
        lw.seed(0)
        run = make(out, model=Dropping())
        turns = [len(train(run, loader(shuffle=True), epochs=n)) for n in (epochs, 1)]
        run.close()
        return turns, weights(run), run.totals["turns"]

    program(tmp_path / "run", 1)
    turns, extended, total = program(tmp_path / "run", 2)
    _, expected, _ = program(None, 2)
    assert turns == [6, 6]
    assert equal(extended, expected)
    assert total == 18
    assert program(tmp_path / "run", 2)[0] == [0, 0]


DIFFERENT = {
    "precision": ({}, {"precision": "bf16"}),
    "accumulate": ({}, {"accumulate": 2}),
    "clip": ({"clip": 1.0}, {"clip": 2.0}),
    "ema": ({}, {"ema": lw.EMA(0.9)}),
    "hidden": ({"settings": {"hidden": 1}}, {"settings": {"hidden": 2}}),
    "lr": ({}, {"optimizer": lambda p: torch.optim.SGD(p, lr=0.06)}),
    "optimizer class": ({}, {"optimizer": adam()}),
    "momentum": ({}, {"optimizer": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)}),
    "weight": ({}, {"model": nn.Linear(3, 2)}),
    "another layer": (
        {},
        {"model": nn.Sequential(nn.Linear(3, 1), nn.Linear(1, 1))},
    ),
    "scheduler": ({}, {"scheduler": lw.warmup_constant(2)}),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_difference_is_refused(tmp_path, name):
    """Any other difference is refused with a table of what differs, and nothing is changed."""
    then, now = DIFFERENT[name]
    run = make(tmp_path / "run", **then)
    train(run)
    run.close()
    before = contents(tmp_path / "run")
    error = refused(lambda: make(tmp_path / "run", **now))
    assert error.slug == "another-run"
    table = error.what.splitlines()
    assert table[1].split() == ["setting", "then", "now"]
    assert len(table) > 2
    shapes = name in ("weight", "another layer")  # which no allow_change can make fit
    change = "lw.load_weights(" if shapes else "allow_change="
    for way in ("out=", 'resume="never"', change):
        assert way in error.hint
    assert contents(tmp_path / "run") == before


def test_table_of_differences(tmp_path):
    """The table has the names and both values."""
    run = make(tmp_path / "run", settings={"hidden": 1}, accumulate=1)
    train(run)
    run.close()
    error = refused(lambda: make(tmp_path / "run", settings={"hidden": 2}, accumulate=4))
    rows = [line.split() for line in error.what.splitlines()[2:]]
    assert rows == [["setting", "hidden", "1", "2"], ["accumulate", "1", "4"]]


@pytest.mark.parametrize(
    "batches",
    [
        lambda: loader(samples=20),
        lambda: loader(batch_size=3),
        lambda: list(loader()),
    ],
)
def test_other_data_is_refused(tmp_path, batches):
    """Another number of samples, batch size or kind of loader is refused before anything is trained."""
    with pytest.raises(KeyError), make(tmp_path / "run", checkpoint=EVERY_TURN) as run:
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            if step.index == 2:
                raise KeyError
    again = make(tmp_path / "run", checkpoint=EVERY_TURN)
    before = weights(again)
    error = refused(lambda: train(again, batches()))
    assert error.slug == "another-run"
    assert "loader" in str(error)
    assert equal(before, weights(again))
    assert again.active is None


def test_allow_change(tmp_path):
    """An allowed change goes on: with the state that was saved, under the new setting."""
    run = make(tmp_path / "run", settings={"hidden": 1}, accumulate=1)
    train(run)
    run.close()
    settings = {"settings": {"hidden": 2}, "accumulate": 2}
    refused(lambda: make(tmp_path / "run", **settings, allow_change=["hidden"]))
    again = make(tmp_path / "run", **settings, allow_change=["hidden", "accumulate"])
    train(again, epochs=2)
    again.close()
    assert again.totals["updates"] == 6 + 3
    # From then on the folder is the changed run's.
    train(make(tmp_path / "run", **settings), epochs=2)
    refused(lambda: make(tmp_path / "run", settings={"hidden": 1}))


def test_allowed_learning_rate(tmp_path):
    """An allowed change of the learning rate takes effect: the saved one does not come back."""
    run = make(tmp_path / "run", optimizer=adam(lr=0.01, weight_decay=0.1))
    train(run)
    run.close()
    again = make(
        tmp_path / "run",
        optimizer=adam(lr=0.001, weight_decay=0.1),
        allow_change=["lr"],
    )
    rates = []
    for step in again.loop(loader(), epochs=2):
        rates.append(again.lr())
        turn(again, step)
    assert rates == [0.001] * 6
    assert again.optimizer.param_groups[0]["weight_decay"] == 0.1
    assert again.optimizer.state[again.model.weight]["step"] == 12


def test_allowed_learning_rate_under_a_schedule(tmp_path):
    """Under a schedule an allowed learning rate scales what the schedule makes of it."""

    def build(lr, **more):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        halve = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        return make(
            tmp_path / "run",
            model=model,
            optimizer=optimizer,
            scheduler=lw.per_epoch(halve),
            **more,
        )

    run = build(0.1)
    train(run, epochs=2)
    run.close()
    assert run.lr() == pytest.approx(0.025)
    again = build(0.01, allow_change=["lr"])
    train(again, epochs=3)
    assert again.lr() == pytest.approx(0.00125)


def test_resume_never_puts_aside(tmp_path):
    """resume="never" puts the old folder aside, whole, when the new run begins, and not before."""
    run = make(tmp_path / "run")
    train(run)
    run.close()
    old = contents(tmp_path / "run")
    for number in (1, 2):
        again = make(tmp_path / "run", resume="never", accumulate=number + 1)
        aside = tmp_path / f"run.old-{number}"
        assert not aside.exists()
        with pytest.raises(DataError):
            again.loop([], epochs=1)
        assert not aside.exists()
        assert len(train(again)) == 6
        again.close()
        assert contents(aside) == old
        old = contents(tmp_path / "run")


def test_resume_never_and_a_failed_start(tmp_path):
    """A failed start with resume="never" leaves the old run where it was."""
    run = make(tmp_path / "run")
    train(run)
    run.close()
    old = contents(tmp_path / "run")
    again = make(tmp_path / "run", resume="never")
    again.track("x", Unsavable())
    with pytest.raises(UsageError):
        train(again)
    again.close()
    assert contents(tmp_path / "run") == old
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_resume_always(tmp_path):
    """resume="always" refuses to begin anew, and goes on where there is a run."""
    assert refused(lambda: make(tmp_path / "run", resume="always")).slug == "nothing-to-resume"
    assert not (tmp_path / "run").exists()
    train(make(tmp_path / "run"))
    assert train(make(tmp_path / "run", resume="always")) == []


def test_resume_words(tmp_path):
    """resume takes three words; always needs a folder."""
    for settings, slug in (
        ({"resume": "yes"}, "unknown-resume"),
        ({"resume": "always"}, "resume-without-out"),
    ):
        with pytest.raises(UsageError) as caught:
            make(**settings)
        assert caught.value.slug == slug


@pytest.mark.parametrize(
    "name",
    [
        "threads",
        "torch",
        "python",
        "numpy",
        "loopwright",
        "device",
        "processor",
        "matmul",
        "deterministic",
    ],
)
def test_resumed_elsewhere_warns(tmp_path, name):
    """A resume under another thread count, version, device or processor warns that bits may differ."""
    run = make(tmp_path / "run")
    train(run)
    run.close()
    path = tmp_path / "run" / "run.json"
    asked = json.loads(path.read_text())
    now = asked["environment"][name]
    asked["environment"][name] = "another"
    path.write_text(json.dumps(asked))
    said = f"{name} another → {now}"
    assert train(make(tmp_path / "run")) == []  # nothing is left to do, so nothing is warned of
    with pytest.warns(LoopwrightWarning, match=rf"{re.escape(said)}.*\[resumed-elsewhere\]"):
        train(make(tmp_path / "run"), epochs=2)


def test_resumed_with_another_matmul_precision(tmp_path):
    """What torch was told of the precision of products is seen where it was told before the run is made."""
    run = make(tmp_path / "run")
    train(run)
    run.close()
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.warns(LoopwrightWarning, match="matmul highest → medium"):
            train(make(tmp_path / "run"), epochs=2)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_deterministic_is_given_back_when_refused(tmp_path):
    """A refused Run leaves torch's deterministic mode as it was."""
    run = make(tmp_path / "run")
    train(run)
    run.close()
    refused(lambda: make(tmp_path / "run", deterministic=True))
    assert not torch.are_deterministic_algorithms_enabled()


# -- who uses the folder --------------------------------------------------------------------------


def test_notebook_rule(tmp_path):
    """A second Run on a folder of this process closes the older, whose use is then an error."""
    older = make(tmp_path / "run", checkpoint=EVERY_TURN)
    for step in older.loop(loader(), epochs=1):
        turn(older, step)
        if step.index == 2:
            break
    newer = make(tmp_path / "run", checkpoint=EVERY_TURN)
    assert older.closed
    for use in (lambda: older.loop(loader(), epochs=1), lambda: older.evaluate(loader())):
        with pytest.raises(UsageError) as caught:
            use()
        assert caught.value.slug == "run-closed"
        assert "newer lw.Run" in caught.value.hint
    assert train(newer) == []
    assert equal(weights(older), weights(newer))


def test_notebook_rule_before_the_first_loop(tmp_path):
    """Of two Runs that have not begun yet the newer one has the folder."""
    older = make(tmp_path / "run")
    newer = make(tmp_path / "run")
    with pytest.raises(UsageError, match="closed"):
        train(older)
    assert len(train(newer)) == 6


def test_interrupted_cell(tmp_path):
    """A cell that failed and is run again goes on where it was."""
    runs = []
    for attempt in range(2):
        run = make(tmp_path / "run", checkpoint=EVERY_TURN)
        runs.append(run)
        try:
            for step in run.loop(loader(), epochs=1):
                turn(run, step)
                if attempt == 0 and step.index == 3:
                    raise KeyError
        except KeyError:
            pass
    assert runs[1].totals["turns"] == 6
    whole = make()
    train(whole)
    assert equal(weights(whole), weights(runs[1]))


def test_refused_run_closes_nothing(tmp_path):
    """A Run that is refused leaves the older one, which holds the folder, at work."""
    older = make(tmp_path / "run")
    for step in older.loop(loader(), epochs=1):
        turn(older, step)
        if step.index == 2:
            refused(lambda: make(tmp_path / "run", accumulate=3))
            refused(lambda: make(tmp_path / "run", settings={"x": 1}))
    assert not older.closed
    assert older.totals["turns"] == 6


HOLDS = """
import sys, time
sys.path.insert(0, {tests!r})
from small import loader, make, turn
run = make("run")
for step in run.loop(loader({workers}), epochs=1):
    turn(run, step)
    print("in", flush=True)
    while True:
        time.sleep(0.01)
"""


def start_holder(start_program, folder, workers=""):
    """A program that is inside its first turn for good."""
    (folder / "train.py").write_text(
        HOLDS.format(tests=str(Path(__file__).parents[1]), workers=workers)
    )
    holder = start_program(["train.py"], cwd=folder)
    end = time.monotonic() + 60
    while "in\n" not in holder.out:
        assert holder.running(), holder.err
        assert time.monotonic() < end
        time.sleep(0.005)
    return holder


@pytest.mark.parametrize("resume", ["auto", "always", "never"])
def test_second_process(start_program, tmp_path, resume):
    """A second process is refused with the first one's pid, and leaves the folder as it is."""
    holder = start_holder(start_program, tmp_path)
    before = contents(tmp_path / "run")
    error = refused(lambda: make(tmp_path / "run", resume=resume))
    assert error.slug == "run-folder-in-use"
    assert f"process {holder.pid} on" in str(error)
    assert contents(tmp_path / "run") == before
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["run"]
    holder.send_signal(signal.SIGKILL)
    assert holder.wait(30).rc == -9
    train(make(tmp_path / "run"))


def test_lock_dies_with_its_owner(start_program, tmp_path):
    """The folder is free at once when its holder was killed, though its workers outlive it a moment."""
    holder = start_holder(start_program, tmp_path, workers="num_workers=2")
    holder.send_signal(signal.SIGKILL)
    assert holder.wait(30).rc == -9
    assert len(train(make(tmp_path / "run"))) == 6


# -- numbered folders -----------------------------------------------------------------------------


def numbered(base, settings, **more):
    """The folder that a command without out= means."""
    return choose(base, "digits", None, settings, **more)


def test_choose(tmp_path):
    """Without out the newest unfinished run of the same settings goes on, otherwise a number begins."""
    settings = {"lr": 0.1, "epochs": 1}
    first = numbered(tmp_path, settings)
    assert first == tmp_path / "digits" / "1"
    with pytest.raises(KeyError), make(first, settings=settings) as run:
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            raise KeyError
    assert numbered(tmp_path, settings) == first
    assert numbered(tmp_path, {**settings, "epochs": 5}) == first
    assert numbered(tmp_path, {**settings, "lr": 0.2}) == tmp_path / "digits" / "2"
    assert numbered(tmp_path, settings, resume="never") == tmp_path / "digits" / "2"
    assert choose(tmp_path, "other", None, settings) == tmp_path / "other" / "1"
    assert choose(tmp_path, "digits", {"name": "x"}, settings) == tmp_path / "digits" / "2"
    run = make(first, settings=settings)
    train(run)
    run.close()
    assert numbered(tmp_path, settings) == tmp_path / "digits" / "2"


def test_choose_passes_over_what_is_no_run(tmp_path):
    """Folders that are no runs, and files, are passed over; the number after the highest begins."""
    place = tmp_path / "digits"
    (place / "7").mkdir(parents=True)
    (place / "old").mkdir()
    (place / "9").write_text("a file")
    (place / "3").mkdir()
    (place / "3" / "run.json").write_text("{")
    assert numbered(tmp_path, {}) in (place / "8", place / "10")
    assert not numbered(tmp_path, {}).exists()


def test_choose_takes_the_newest(tmp_path):
    """Of several unfinished runs with the same settings the newest goes on, by number."""
    for number in (2, 10, 9):
        run = make(tmp_path / "digits" / str(number), settings={"lr": 1})
        for _step in run.loop(loader(), steps=1):
            pass
        run.close()
        path = tmp_path / "digits" / str(number) / "outcome.json"
        ended = json.loads(path.read_text())
        ended["outcome"]["kind"] = "interrupted"
        path.write_text(json.dumps(ended))
    assert numbered(tmp_path, {"lr": 1}) == tmp_path / "digits" / "10"


# -- reading it back ------------------------------------------------------------------------------


def test_read_run(tmp_path):
    """A run is read back from its folder, finished or not."""
    run = make(tmp_path / "run", settings={"hidden": 3}, name="the name")
    with pytest.raises(KeyError):
        for step in run.loop(loader(), epochs=3):
            turn(run, step)
            if step.index == 7:
                raise KeyError
    run.close()
    record = read_run(tmp_path / "run")
    assert record.name == "the name"
    assert record.settings["hidden"] == 3
    assert record.outcome.kind == "failed"
    assert record.totals["turns"] == 7
    assert [row.epoch for row in record.epochs] == [0]
    assert record.checkpoints


def test_read_run_of_nothing(tmp_path):
    """What is no folder, or no run, is refused with that."""
    with pytest.raises(UsageError) as caught:
        read_run(tmp_path / "nowhere")
    assert caught.value.slug == "no-such-run"
    assert refused(lambda: read_run(tmp_path)).slug == "not-a-run"


def test_json_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    """A JSON file that cannot be written leaves the one before as it was."""
    path = tmp_path / "outcome.json"
    reading.write_json(path, {"a": 1})

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(DiskError, match="no room on the disk"):
        reading.write_json(path, {"a": 2})
    assert reading.read_json(path) == {"a": 1}


@pytest.mark.parametrize("room", [True, False])
def test_no_room_for_the_state_at_the_end(tmp_path, monkeypatch, room):
    """The final weights are smaller than the state and are tried; the same command goes on all the same."""
    from loopwright.checkpoint.store import Store
    from loopwright.train.folder import writing

    save, write = Store.save, writing.save_weights

    def no_room(self, state, *, name, **rest):
        if name.endswith("-end"):
            raise DiskError("no room on the disk", slug="disk-full")
        return save(self, state, name=name, **rest)

    def full(path, *_):
        raise DiskError("no room on the disk", slug="disk-full", where=str(path))

    monkeypatch.setattr(Store, "save", no_room)
    monkeypatch.setattr(writing, "save_weights", write if room else full)
    run = make(tmp_path / "run", optimizer=adam())
    with pytest.raises(DiskError, match="no room") as caught, run:
        train(run)
    final = tmp_path / "run" / "final.safetensors"
    assert final.exists() == room
    assert any(str(final) in note for note in getattr(caught.value, "__notes__", ())) == room
    monkeypatch.undo()
    again = make(tmp_path / "run", optimizer=adam())
    train(again)
    assert again.outcome.kind == "finished"
    assert lw.load_weights(tmp_path / "run", network()).complete
