"""The page's parts as plain data: headline, confusion matrix, model rows, phases."""

from __future__ import annotations

import math

from loopwright.events import (
    Classification,
    EpochRow,
    LayerRow,
    ModelSummary,
    PhaseTime,
    RunRecord,
    Series,
)
from loopwright.report import headline
from loopwright.report.classes import confusion
from loopwright.report.layers import ROWS_SHOWN, layers
from loopwright.report.timing import phases


def test_headline_leads_with_what_was_kept(samples):
    """The kept best comes first with its epoch and the last value; losses, time and speed follow."""
    shown = headline.readouts(samples.digits())
    assert [readout.label for readout in shown] == [
        "validation accuracy", "validation loss", "training loss", "epochs", "time", "samples/s",
    ]  # fmt: skip
    assert shown[0].note.startswith("best, epoch 8 · last 98.07")


def test_headline_finds_the_best_itself(samples):
    """Without a kept best, the first validation metric leads with the epoch where it was best."""
    best = headline.main_metric(samples.regression())
    assert (best.name, best.mode, best.epoch) == ("valid_rmse", "min", 20)


def test_headline_of_a_run_without_epochs():
    """A run by steps shows the last loss and how many updates were made."""
    record = RunRecord(
        name="r", series={"loss": Series("loss", [1, 2], [2.0, 1.5])}, totals={"updates": 2}
    )
    assert [(r.label, r.value) for r in headline.readouts(record)] == [
        ("training loss", "1.5"), ("updates", "2"),
    ]  # fmt: skip


def test_best_epoch_ignores_nan():
    """An epoch of NaN is never the best one; if there is no other, the value is NaN."""
    rows = [EpochRow(e, e + 1, 1.0, {"valid_loss": v}) for e, v in enumerate([2.0, math.nan, 3.0])]
    best = headline.best_epoch(RunRecord(name="r", epochs=rows), "valid_loss")
    assert (best.value, best.epoch, best.last) == (2.0, 1, 3.0)
    only = headline.best_epoch(RunRecord(name="r", epochs=rows[1:2]), "valid_loss")
    assert math.isnan(only.value)


def test_confusion_matrix_numbers():
    """Precision, recall and F1 follow from the counts; mistakes are sorted by how common they are."""
    view = confusion(Classification("valid", ["cat", "dog"], [[8, 2], [1, 9]]))
    assert (view.total, view.right, view.accuracy) == (20, 17, 0.85)
    cat = view.classes[0]
    assert math.isclose(cat.precision, 8 / 9)
    assert math.isclose(cat.recall, 0.8)
    assert math.isclose(cat.f1, 16 / 19)
    assert [(m.target, m.predicted, m.count) for m in view.mistakes] == [
        ("cat", "dog", 2), ("dog", "cat", 1),
    ]  # fmt: skip


def test_many_classes_become_a_picture():
    """Beyond 24 classes the cells that are not zero travel as triples instead of a table."""
    counts = [[5 if i == j else 0 for j in range(30)] for i in range(30)]
    counts[3][4] = 2
    view = confusion(Classification("valid", [str(i) for i in range(30)], counts))
    assert view.rows is None
    assert [3, 4, 2] in view.sparse["cells"]
    assert len(view.sparse["cells"]) == 31


def test_deep_models_fold():
    """A model of thousands of modules shows its upper levels, and says how many are left out."""
    rows = [LayerRow("", "Net", None, 10, 10, 0)]
    for i in range(50):
        rows.append(LayerRow(f"block{i}", "Block", [1], 1, 0, 1))
        rows += [LayerRow(f"block{i}.{j}", "Linear", [1], 1, 1, 2) for j in range(40)]
    views, left_out = layers(ModelSummary("Net", rows, 10, 5, 40))
    assert len(views) == 51 <= ROWS_SHOWN
    assert left_out == 2000
    assert views[0].name == "Net"
    assert views[1].frozen == "frozen"
    small, _ = layers(ModelSummary("Net", rows[:35], 10, 5, 40))
    assert [view.hidden for view in small] == [False, False] + [True] * 33
    assert small[1].parent
    assert not small[1].open


def test_phases_in_the_order_of_the_step():
    """Phases are sorted as the step has them, share the whole, and forward may come with the loss."""
    record = RunRecord(
        name="r",
        totals={"turns": 10},
        phases=[
            PhaseTime("backward", 1.0),
            PhaseTime("forward+loss", 3.0),
            PhaseTime("fetch", 0.0),
        ],
    )
    views = phases(record)
    assert [(v.name, v.share, v.per_turn) for v in views] == [
        ("forward+loss", 0.75, 0.3), ("backward", 0.25, 0.1),
    ]  # fmt: skip
    assert views[0].meaning == "the model's forward pass and the criterion"


def test_headline_shows_the_result_on_held_out_data_second():
    """A run's test value of the headline's metric stands beside the best validation."""
    record = RunRecord(
        name="run",
        epochs=[EpochRow(0, 45, 1.0, {"train_loss": 0.3, "valid_accuracy": 0.97})],
        totals={"test_loss": 0.1, "test_accuracy": 0.978},
    )
    second = headline.readouts(record)[1]
    assert (second.label, second.value) == ("test accuracy", "97.80\N{NO-BREAK SPACE}%")
