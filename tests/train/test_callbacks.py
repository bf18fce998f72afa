"""Moments: what fires, in which order, and what when a run ends early."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from small import loader, make, turn

import loopwright as lw
from loopwright.errors import UsageError
from loopwright.train import callbacks
from loopwright.train.callbacks import MOMENTS


def listen(run) -> list[str]:
    """Everything that fires from now on, by name."""
    seen: list[str] = []
    for moment in MOMENTS:
        run.on(moment, lambda event: seen.append(event.moment))
    return seen


def test_order(tmp_path):
    """At an epoch's end: update, validation, log, epoch_end, schedulers, checkpoint."""
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    run = make(
        tmp_path / "run",
        model=model,
        optimizer=optimizer,
        scheduler=lw.per_epoch(scheduler),
        checkpoint=lw.Checkpoint(every_steps=2),
    )
    seen = listen(run)
    rates = []
    run.on("epoch_end", lambda event: rates.append(event.run.lr()))
    run.on("checkpoint", lambda event: rates.append(event.run.lr()))
    for step in run.loop(loader(samples=8), epochs=2):
        turn(run, step)
        seen.append("body")
        if step.ends_epoch:
            for _ in run.evaluate(loader()):
                pass
    run.close()
    epoch = ["epoch_begin", "update", "body", "update", "body", "validation", "log", "epoch_end"]
    assert seen == [
        "checkpoint",
        "loop_begin",
        *epoch,
        "checkpoint",
        *epoch,
        "checkpoint",
        "loop_end",
        "close",
    ]
    # The scheduler steps after epoch_end and before the checkpoint, which so holds its new rate.
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_values():
    """Every moment carries the run, the turn, the epoch and its values."""
    run = make()
    seen = []
    for moment in MOMENTS:
        run.on(moment, seen.append)
    for step in run.loop(loader(samples=8), epochs=2):
        turn(run, step)
        step.log(extra=step.index)
    run.close()
    by = {moment: [e for e in seen if e.moment == moment] for moment in MOMENTS}
    assert all(event.run is run for event in seen)
    assert [(e.turn, e.epoch) for e in by["epoch_begin"]] == [(0, 0), (2, 1)]
    assert [(e.turn, e.epoch, e.step.index) for e in by["update"]] == [
        (0, 0, 0),
        (1, 0, 1),
        (2, 1, 2),
        (3, 1, 3),
    ]
    assert [(e.turn, e.epoch, e.step) for e in by["epoch_end"]] == [(2, 0, None), (4, 1, None)]
    assert [e.values["extra"] for e in by["epoch_end"]] == [0.5, 2.5]
    assert all("train_loss" in e.values for e in by["epoch_end"])
    assert {"loss", "lr", "extra"} <= set(by["log"][-1].values)
    assert [e.values for e in by["loop_end"]] == [{"how": "limit"}]


def test_log_values():
    """``log`` has what its row in the table names: loss, lr, grad_norm, samples_per_s."""
    run = make()
    seen = []
    run.on("log", seen.append)
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
    assert {"loss", "lr", "grad_norm", "samples_per_s"} <= set(seen[-1].values)


def test_checkpoint_values(tmp_path):
    """``checkpoint`` says which one it was and why."""
    run = make(tmp_path / "run", checkpoint=lw.Checkpoint(every_steps=2, every_epochs=None))
    seen = []
    run.on("checkpoint", seen.append)
    for step in run.loop(loader(), steps=3):
        turn(run, step)
    assert [e.values["reason"] for e in seen] == ["start", "steps", "end"]
    names = [e.values["name"] for e in seen]
    run.close()
    assert {names[-1], names[-2]} <= {
        path.name for path in (tmp_path / "run/checkpoints").iterdir()
    }


def test_several_functions_in_order():
    """Functions of one moment are called in the order of their registration."""
    run = make()
    seen = []
    run.on("loop_begin", lambda _: seen.append(1))

    @run.on("loop_begin")
    def second(event):
        seen.append(2)

    run.on("loop_begin", lambda _: seen.append(3))
    for step in run.loop(loader(), steps=1):
        turn(run, step)
    assert seen == [1, 2, 3]
    assert callable(second)


def test_what_a_callback_raises():
    """What a callback raises is the user's to see, with its type."""
    run = make()
    run.on("epoch_end", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
    assert run.outcome.kind == "failed"
    assert run.active is None


@pytest.mark.parametrize(
    ("wrong", "hint"), [("epoch_ends", "'epoch_end'?"), ("update_", "'update'?"), ("zzz", "one of")]
)
def test_unknown_moment(wrong, hint):
    """A moment that there is not is refused with the nearest."""
    with pytest.raises(UsageError) as caught:
        make().on(wrong, print)
    assert caught.value.slug == "unknown-moment"
    assert hint in caught.value.hint


def test_update_does_not_fire_inside_a_window():
    """``update`` fires once an update, not once a turn."""
    run = make(accumulate=4)
    seen = []
    run.on("update", lambda event: seen.append(event.step.index))
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
    assert seen == [3, 5]


def test_validation_does_not_fire_when_left():
    """``validation`` fires after a whole evaluation, not after one that was left."""
    run = make()
    seen = []
    run.on("validation", lambda event: seen.append(1))
    for _ in run.evaluate(loader()):
        break
    assert seen == []
    list(run.evaluate(loader()))
    assert seen == [1]


def test_without_a_folder_no_checkpoint_fires():
    """Without a folder nothing is written, so no ``checkpoint`` fires."""
    run = make()
    seen = listen(run)
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
    assert "checkpoint" not in seen


# -- the table of what fires when a run ends early ------------------------------------------------


def limit(run, step, last):
    pass


def stop(run, step, last):
    if last:
        run.stop("enough")


def leave(run, step, last):
    if last:
        return "break"
    return None


def interrupt(run, step, last):
    if last:
        signal.raise_signal(signal.SIGINT)


def terminate(run, step, last):
    if last:
        signal.raise_signal(signal.SIGTERM)


def fail(run, step, last):
    if last:
        raise KeyError("mine")


ROWS = {
    "its limit": [limit],
    "``run.stop()``": [stop],
    "``break``, ``return``": [leave],
    "Ctrl-C, SIGTERM": [interrupt, terminate],
    "an exception": [fail],
}
COLUMNS = ("epoch_end", "log", "checkpoint", "loop_end", "close")


def fired(folder, end, ending_turn, epochs):
    """Which of the columns fire because of, and after, a run's ending turn."""
    run = make(folder, checkpoint=lw.Checkpoint(every_epochs=None))
    seen = []
    try:
        with run:
            for step in run.loop(loader(samples=16), epochs=epochs):  # four turns an epoch
                turn(run, step)
                if step.index == ending_turn:
                    seen = listen(run)
                if end(run, step, step.index == ending_turn) == "break":
                    break
    except (KeyError, KeyboardInterrupt, SystemExit):
        pass
    return [moment in seen for moment in COLUMNS]


def table(text):
    """The rows of the table under ``ended by``."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("ended by"))
    edges = [
        i for i, c in enumerate(lines[start - 1]) if c == "=" and lines[start - 1][i - 1 : i] != "="
    ]
    found = {}
    for line in lines[start + 2 :]:
        if line.startswith("==="):
            break
        cells = [line[a:b].strip() for a, b in zip(edges, [*edges[1:], None], strict=True)]
        found[cells[0]] = cells[1:]
    header = [lines[start][a:b].strip() for a, b in zip(edges, [*edges[1:], None], strict=True)]
    assert header[1:] == list(COLUMNS)
    return found


def test_table_of_endings(tmp_path):
    """The table in the module's docstring, and the one in the guide, is what really fires."""
    said = table(callbacks.__doc__)
    assert list(said) == list(ROWS)
    number = 0
    for name, cells in said.items():
        for end in ROWS[name]:
            truth = []
            for turn_, epochs in ((7, 2), (5, 2)):  # at an epoch's end, and inside one
                if end is limit and turn_ == 5:
                    truth.append(truth[0])
                    continue
                number += 1
                truth.append(
                    fired(tmp_path / str(number), end, turn_, epochs if end is limit else 3)
                )
            at_one, inside = truth
            words = {(True, True): "yes", (True, False): "if at one", (False, False): "no"}
            assert [words[pair] for pair in zip(at_one, inside, strict=True)] == cells, (name, end)


def test_table_in_the_guide():
    """The guide's table of endings has the same words as the module's docstring."""
    page = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page[page.index("| ended by") :].split("\n\n")[0].splitlines()[2:]
    ]
    said = table(callbacks.__doc__)
    assert {row[0].replace("`", "``"): row[1:] for row in rows} == said


def test_moments_in_the_tables():
    """Both tables of moments name every moment in its order."""
    page = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text()
    part = page[page.index("| moment | when") : page.index("## When a run ends early")]
    named = [line.split("`")[1] for line in part.splitlines() if line.startswith("| `")]
    assert tuple(named) == MOMENTS
    lines = callbacks.__doc__.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("loop_begin"))
    assert tuple(line.split()[0] for line in lines[first : first + len(MOMENTS)]) == MOMENTS


# -- others' callbacks ----------------------------------------------------------------------------


class CountUpdates:
    """A third party's callback: ten lines, saved with the run."""

    def __init__(self):
        self.count = 0

    def __call__(self, run):
        run.on("update", self.add)
        run.track("count_updates", self)

    def add(self, event):
        self.count += 1

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_third_party_callback(tmp_path):
    """A callback in ten lines counts updates, and goes on counting when the run is resumed."""
    first = CountUpdates()
    run = make(tmp_path / "run", callbacks=[first])
    for step in run.loop(loader(), steps=4):
        turn(run, step)
    run.close()
    assert first.count == 4
    second = CountUpdates()
    run = make(tmp_path / "run", callbacks=[second])
    for step in run.loop(loader(), steps=6):
        turn(run, step)
    assert second.count == 6


def run_with(stopping, values, epochs=10, out=None):
    """Train with an early stopping that sees these values; returns the run."""
    run = make(out, callbacks=[stopping])
    for step in run.loop(loader(samples=8), epochs=epochs):
        turn(run, step)
        if step.ends_epoch:
            step.log(score=values[step.epoch])
    return run


@pytest.mark.parametrize(
    ("settings", "values", "epochs"),
    [
        ({"patience": 2}, [3, 2, 2, 2, 1, 0, 0, 0, 0, 0], 4),
        ({"patience": 3}, [3, 2, 2, 2, 1, 0, 0, 0, 0, 0], 9),
        ({"patience": 2, "mode": "max"}, [1, 2, 3, 3, 2, 9, 9, 9, 9, 9], 5),
        ({"patience": 1, "least": 0.5}, [3, 2, 1.8, 0, 0, 0, 0, 0, 0, 0], 3),
        ({"patience": 2}, [float("nan")] * 10, 2),
        ({"patience": 2}, list(range(10, 0, -1)), 10),
    ],
)
def test_early_stopping(settings, values, epochs):
    """A run stops when the value has not improved for ``patience`` epochs, nan being no improvement."""
    run = run_with(lw.early_stopping("score", **settings), values)
    assert run.totals["epochs"] == epochs
    assert run.outcome.kind == ("stopped" if epochs < 10 else "finished")
    if epochs < 10:
        assert "score has not improved" in run.outcome.reason


def test_early_stopping_on_the_training_loss():
    """``train_loss`` is there without being logged."""
    run = make(callbacks=[lw.early_stopping("train_loss", patience=1, least=1e9)])
    for step in run.loop(loader(), epochs=9):
        turn(run, step)
    assert run.totals["epochs"] == 2


def test_early_stopping_of_nothing():
    """A value that was not logged is named, with those that were."""
    with pytest.raises(UsageError) as caught:
        run = make(callbacks=[lw.early_stopping("scores")])
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            step.log(score=1.0)
    assert caught.value.slug == "unknown-value"
    assert "score" in str(caught.value)


@pytest.mark.parametrize("settings", [{"mode": "down"}, {"patience": 0}])
def test_early_stopping_settings(settings):
    """A mode or a patience that cannot be is refused."""
    with pytest.raises(UsageError):
        lw.early_stopping("score", **settings)


STOPPING = """
import sys
sys.path.insert(0, {tests!r})
import loopwright as lw
from small import loader, make, turn
run = make("run", callbacks=[lw.early_stopping("score", patience=3)], checkpoint=lw.Checkpoint(every_steps=1))
for step in run.loop(loader(samples=8), epochs=10):
    turn(run, step)
    if step.ends_epoch:
        step.log(score=[3, 2, 2, 2, 2, 2, 2, 2, 2, 2][step.epoch])
    if step.index == int(sys.argv[1]):
        import os
        os.kill(os.getpid(), 9)
print(int(run.totals["epochs"]))
"""


def test_early_stopping_goes_on_waiting(run_program, tmp_path):
    """A resumed run has waited as long as the run before: it stops at the same epoch."""
    (tmp_path / "train.py").write_text(STOPPING.format(tests=str(Path(__file__).parent)))
    assert run_program(["train.py", "6"], cwd=tmp_path).rc == -9
    assert run_program(["train.py", "-1"], cwd=tmp_path).out == "5\n"
