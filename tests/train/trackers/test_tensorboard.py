"""TensorBoard's event files, read back by TensorBoard."""

from __future__ import annotations

import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from loopwright.errors import UsageError
from loopwright.train.trackers import resolve
from loopwright.train.trackers.tensorboard import tensorboard


def read(folder):
    """Return every curve as (turn, value) pairs."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }, events


def test_event_files_hold_what_was_logged(run):
    """Curves, epoch values (NaN as NaN), final results and settings are read back at their turns."""
    resolve("tensorboard")(run)
    run.train()
    curves, events = read(run.folder / "tensorboard")
    assert curves["loss"] == [(101, 1.0), (102, 0.5)]
    assert [turn for turn, _ in curves["lr/g"]] == [101, 102]
    assert curves["epoch/train_loss"][0][0] == 102
    assert math.isnan(curves["epoch/train_loss"][0][1])
    assert curves["final/test_accuracy"] == [(102, pytest.approx(0.9))]
    text = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| lr | 0.1 |" in text


def test_resume_hides_what_is_done_again(run, make_run):
    """Turns beyond the checkpoint that were sent before the interruption are not shown twice."""
    tensorboard(run)
    run.train(last=4, kind="interrupted")
    again = make_run()
    tensorboard(again)
    again.train(first=2, last=4)
    curves, _ = read(run.folder / "tensorboard")
    assert [turn for turn, _ in curves["loss"]] == [101, 102, 103, 104]


def test_a_folder_is_needed(make_run, tmp_path):
    """A run without a folder says so; a folder can be given."""
    with pytest.raises(UsageError, match="no folder"):
        tensorboard(make_run(None))
    run = make_run(None)
    tensorboard(run, folder=tmp_path / "events")
    run.train()
    assert "loss" in read(tmp_path / "events")[0]
