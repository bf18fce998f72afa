"""What a run measured: JSON lines on disk, bounded curves in memory."""

from __future__ import annotations

import json
import math
import resource
import sys
import threading

import pytest
import torch
from small import loader, make, turn

from loopwright.errors import DiskError, NonFiniteError
from loopwright.events import EpochRow
from loopwright.train.folder.history import POINTS, History, read, strict, to_host


def lines(path) -> list[dict]:
    """The records of a metrics file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def turns(history, values, first=1, loop="0"):
    """Note turns with these losses and bring them to the host and into the file."""
    for i, value in enumerate(values):
        history.turn(first + i, value, 1, 0.1, None if value is None else 2.0)
    losses = history.flush(loop, 0.5)
    history.put_down()
    return losses


def same(one: History, other: History) -> bool:
    """Whether two histories show the same curves and rows; nan is the same as nan."""
    return (repr(one.series), repr(one.epochs)) == (repr(other.series), repr(other.epochs))


def test_kinds_of_a_run(tmp_path):
    """A run's file has steps, log and epoch records with the documented fields."""
    run = make(tmp_path / "run")
    for step in run.loop(loader(), epochs=2):
        if step.index != 3:
            turn(run, step)
        step.log(extra=2.0)
    run.close()
    records = lines(tmp_path / "run" / "metrics.jsonl")
    by = {kind: [r for r in records if r["kind"] == kind] for kind in ("steps", "log", "epoch")}
    assert {r["kind"] for r in records} == {"steps", "log", "epoch"}
    steps = by["steps"]
    assert set(steps[0]) == {"kind", "loop", "first", "loss", "lr", "grad_norm", "seconds"}
    assert steps[0]["first"] == 1
    assert sum(len(r["loss"]) for r in steps) == 12
    losses = [x for r in steps for x in r["loss"]]
    norms = [x for r in steps for x in r["grad_norm"]]
    assert losses[3] is None
    assert norms[3] is None
    assert all(isinstance(x, float) for x in losses[:3] + losses[4:])
    assert by["log"][0] == {"kind": "log", "turn": 1, "epoch": 0, "values": {"extra": 2.0}}
    assert [(r["epoch"], r["turn"], r["loop"]) for r in by["epoch"]] == [(0, 6, "0"), (1, 12, "0")]
    assert set(by["epoch"][0]["values"]) == {"train_loss", "extra"}


def test_read_back(tmp_path):
    """What is read back from the file is what the run has in memory."""
    run = make(tmp_path / "run")
    for step in run.loop(loader(), epochs=2):
        turn(run, step)
        step.log(extra=1.0 / (1 + step.index))
    run.close()
    again = read(tmp_path / "run" / "metrics.jsonl")
    assert {name: (s.x, s.y) for name, s in again.series.items()} == {
        name: (s.x, s.y) for name, s in run.history.series.items()
    }
    assert [row.values for row in again.epochs] == [row.values for row in run.history.epochs]


def test_train_loss_is_the_weighted_mean():
    """An epoch's train_loss is the mean over samples, a ragged last batch included."""
    run = make()
    losses = []
    for step in run.loop(loader(samples=10), epochs=1):
        x, y = step.batch
        loss = torch.nn.functional.mse_loss(run.model(x), y)
        losses.append(loss.item() * len(x))
        step.backward(loss)
        step.update()
    assert run.history.epochs[0].values["train_loss"] == pytest.approx(sum(losses) / 10, rel=1e-12)


def test_not_finite_is_shown(tmp_path):
    """nan and inf are strings in the file and themselves in memory and when read back."""
    path = tmp_path / "metrics.jsonl"
    history = History(path)
    turns(history, [math.nan, math.inf, -math.inf, 1.0])
    history.log(4, 0, {"score": math.nan})
    history.epoch(EpochRow(0, 4, 1.0, {"train_loss": math.nan}))
    history.put_down()
    assert lines(path)[0]["loss"] == ["NaN", "Infinity", "-Infinity", 1.0]
    again = read(path)
    for one in (history, again):
        assert math.isnan(one.series["loss"].y[0])
        assert one.series["loss"].y[1:] == [math.inf, -math.inf, 1.0]
        assert math.isnan(one.series["score"].y[0])
        assert math.isnan(one.epochs[0].values["train_loss"])


def test_nan_logged_in_a_run(tmp_path):
    """A logged nan makes its epoch's mean nan: it is not passed over."""
    run = make(tmp_path / "run")
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
        step.log(score=math.nan if step.index == 2 else 1.0)
    assert math.isnan(run.history.epochs[0].values["score"])


def test_skipped_turns_are_no_points():
    """A skipped batch has a learning rate and no loss, and no weight in the mean."""
    history = History()
    losses, weights = turns(history, [1.0, None, 3.0])
    assert (losses, weights) == ([1.0, 3.0], [1.0, 1.0])
    assert history.series["loss"].x == [1, 3]
    assert history.series["lr"].x == [1, 2, 3]
    assert history.series["grad_norm"].x == [1, 3]


@pytest.mark.parametrize("torn", [1, 7, 30, 70])
def test_torn_last_line(tmp_path, torn):
    """A last line that a crash cut off is passed over, wherever it was cut."""
    path = tmp_path / "metrics.jsonl"
    history = History(path)
    turns(history, [1.0, 2.0])
    whole = path.read_bytes()
    turns(history, [3.0, 4.0], first=3)
    path.write_bytes(path.read_bytes()[: len(whole) + torn])
    assert read(path).series["loss"].y == [1.0, 2.0]


def test_record_after_a_torn_line(tmp_path):
    """A record that is written after a torn line is read: it does not drown in the rest of that line."""
    path = tmp_path / "metrics.jsonl"
    turns(History(path), [1.0, 2.0])
    with path.open("a") as file:
        file.write('{"kind": "steps", "loop": "0", "fir')
    history = read(path)
    history.path = path
    history.forget_after(1)
    turns(history, [9.0], first=2)
    assert read(path).series["loss"].y == [1.0, 9.0]


def test_garbage_in_the_middle(tmp_path):
    """A line that is no record is passed over."""
    path = tmp_path / "metrics.jsonl"
    turns(History(path), [1.0])
    with path.open("ab") as file:
        file.write(b"\xff\xfe\x00\n[1, 2]\n5\nnull\n\n")
    turns(History(path), [2.0], first=2)
    assert read(path).series["loss"].y == [1.0, 2.0]


def test_no_file(tmp_path):
    """Where there is no file there is an empty history."""
    assert read(tmp_path / "metrics.jsonl").series == {}


def test_resumed_voids_what_was_later(tmp_path):
    """Records of turns after the one that was resumed from are void, in memory and when read back."""
    path = tmp_path / "metrics.jsonl"
    history = History(path)
    turns(history, [1.0, 2.0, 3.0, 4.0])
    history.log(2, 0, {"score": 0.2})
    history.log(4, 0, {"score": 0.4})
    history.epoch(EpochRow(0, 2, 1.0, {"train_loss": 1.5}))
    history.epoch(EpochRow(1, 4, 1.0, {"train_loss": 3.5}))
    history.forget_after(2)
    turns(history, [30.0, 40.0], first=3)
    history.epoch(EpochRow(1, 4, 1.0, {"train_loss": 35.0}))
    history.put_down()
    for one in (history, read(path)):
        assert one.series["loss"].x == [1, 2, 3, 4]
        assert one.series["loss"].y == [1.0, 2.0, 30.0, 40.0]
        assert one.series["score"].x == [2]
        assert [row.values["train_loss"] for row in one.epochs] == [1.5, 35.0]


def test_memory_is_bounded(tmp_path):
    """However long a run is, a curve has at most POINTS points, each the mean of its neighbours."""
    path = tmp_path / "metrics.jsonl"
    history = History(path)
    count = 5 * POINTS + 77
    for first in range(0, count, 1000):
        values = [float(i + 1) for i in range(first, min(first + 1000, count))]
        turns(history, values, first=first + 1)
    series = history.series["loss"]
    assert POINTS // 2 <= len(series.x) == len(series.y) <= POINTS
    assert series.x == sorted(set(series.x))
    # The losses are the turns themselves: every point's mean lies at its place, within its width.
    width = count / len(series.x)
    assert all(abs(x - y) <= 2 * width for x, y in zip(series.x, series.y, strict=True))
    assert same(history, read(path))


@pytest.mark.parametrize("place", [0, POINTS - 1, POINTS, POINTS + 1, 2 * POINTS])
def test_a_spike_is_not_lost_in_the_mean(place):
    """Merging loses no value: a spike still shows, wherever it was."""
    history = History()
    values = [0.0] * (4 * POINTS)
    values[place] = 1000.0
    turns(history, values)
    assert max(history.series["loss"].y) >= 100


def test_later_turns_that_are_no_points_yet(tmp_path):
    """Turns that wait in a mean are void as well when the run is resumed before them."""
    path = tmp_path / "metrics.jsonl"
    history = History(path)
    turns(history, [1.0] * (4 * POINTS))
    end = history.series["loss"].x[-1]
    turns(history, [5.0], first=4 * POINTS + 1)
    again = read(path)
    again.path = path
    assert again.series["loss"].x[-1] == end
    again.forget_after(4 * POINTS)
    assert lines(path)[-1] == {"kind": "resumed", "turn": 4 * POINTS}


def test_resumed_after_merging(tmp_path):
    """Resuming a run whose curves were merged keeps the earlier part and goes on."""
    path = tmp_path / "metrics.jsonl"
    history = History(path)
    turns(history, [1.0] * (2 * POINTS))
    history.forget_after(POINTS)
    turns(history, [2.0] * 100, first=POINTS + 1)
    series = history.series["loss"]
    assert max(series.x) <= POINTS + 100
    assert set(series.y[:1000]) == {1.0}
    assert series.y[-1] == 2.0
    assert same(history, read(path))


def test_cannot_write(tmp_path):
    """A file that cannot be written is an error with its path."""
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(DiskError) as caught:
        turns(History(tmp_path / "metrics.jsonl"), [1.0])
    assert caught.value.slug == "cannot-write"
    assert "metrics.jsonl" in str(caught.value)


def test_a_write_that_fails_once(tmp_path):
    """Its lines go on waiting, and stand in the file once, however much of them the disk had taken."""
    path = tmp_path / "metrics.jsonl"
    history = History(path)
    turns(history, [1.0])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
    try:
        with pytest.raises(DiskError):
            turns(history, [2.0, 3.0], first=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    history.log(3, 0, {"score": 0.5})
    history.sync()
    assert [record["kind"] for record in lines(path)] == ["steps", "steps", "log"]
    assert same(read(path), history)


def test_lines_while_a_checkpoint_is_written(tmp_path):
    """A checkpoint's background write puts lines down too: none is lost, none stands twice."""
    path = tmp_path / "metrics.jsonl"
    history = History(path)
    ended = threading.Event()

    def puts():
        while not ended.is_set():
            history.put_down()

    other = threading.Thread(target=puts)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        other.start()
        for turn in range(1, 2001):
            history.log(turn, 0, {"score": 0.5})
    finally:
        ended.set()
        other.join()
        sys.setswitchinterval(before)
    history.put_down()
    assert [record["turn"] for record in lines(path)] == list(range(1, 2001))


def test_to_host():
    """Tensors, numbers and gaps come to the host together, each at its place, as they were."""
    assert to_host([1.0, None, torch.tensor(2.5), torch.tensor([3.0])]) == [1.0, None, 2.5, 3.0]
    assert to_host([1.0, None]) == [1.0, None]
    assert to_host([torch.tensor(0.1, dtype=torch.float64)]) == [0.1]


def test_strict():
    """JSON's strings for what JSON has no numbers for, at any depth."""
    assert strict({"a": [math.nan, (math.inf, -math.inf)], "b": 1.5, "c": "x"}) == {
        "a": ["NaN", ["Infinity", "-Infinity"]],
        "b": 1.5,
        "c": "x",
    }


def test_two_loops_follow_each_other(tmp_path):
    """Turns are counted over the whole run: a second loop's records stand after the first's."""
    run = make(tmp_path / "run")
    for epochs in (1, 2):
        for step in run.loop(loader(), epochs=epochs):
            turn(run, step)
            step.log(extra=1.0)
    run.close()
    for history in (run.history, read(tmp_path / "run" / "metrics.jsonl")):
        assert history.series["loss"].x == list(range(1, 19))
        assert history.series["extra"].x == list(range(1, 19))
        assert [(row.loop, row.epoch, row.turn) for row in history.epochs] == [
            ("0", 0, 6),
            ("1", 0, 12),
            ("1", 1, 18),
        ]
    assert run.totals["turns"] == 18
    assert run.totals["updates"] == 18
    assert run.totals["samples"] == 72


def test_two_loops_again(tmp_path):
    """The same program again leaves the history of two ended loops as it was."""
    for _ in range(2):
        run = make(tmp_path / "run")
        for epochs in (1, 2):
            for step in run.loop(loader(), epochs=epochs):
                turn(run, step)
        run.close()
    history = read(tmp_path / "run" / "metrics.jsonl")
    assert history.series["loss"].x == list(range(1, 19))
    assert run.totals["turns"] == 18


def test_lines_are_put_down_seldom(tmp_path):
    """What an epoch's end asks for waits while the last write is young; a checkpoint does not."""
    path = tmp_path / "metrics.jsonl"
    history = History(path)
    for number in range(1, 4):
        history.log(number, 0, {"score": 0.5})
        history.put_down(seldom=True)
    assert [record["turn"] for record in lines(path)] == [1]
    history.sync()
    assert [record["turn"] for record in lines(path)] == [1, 2, 3]


def test_a_failed_run_has_its_epochs(tmp_path):
    """Epochs that were shorter than the time between two writes are in the file of a run that ends by nan."""
    run = make(tmp_path / "run")
    with pytest.raises(NonFiniteError):
        for step in run.loop(loader(), epochs=5):
            x, y = step.batch
            loss = (run.model(x) - y).square().mean()
            step.backward(loss * math.nan if step.epoch == 3 else loss)
            step.update()
    assert [row.epoch for row in read(tmp_path / "run" / "metrics.jsonl").epochs] == [0, 1, 2]
