"""The table recipe."""

from __future__ import annotations

import pytest
import torch

from loopwright.errors import DataError, UsageError
from loopwright.recipes.columns import read_columns
from loopwright.recipes.table import AbsoluteError, class_names, mean_and_deviation, table

KINDS = ("oak", "elm", "fir")


@pytest.fixture
def trees(tmp_path):
    """Sixty trees: a number with gaps, a word, a whole number, a price and a kind."""
    lines = ["height,ground,age,price,kind"]
    for n in range(60):
        height = "" if n % 7 == 0 else f"{n / 3:.3f}"
        ground = ("sand", "clay")[n % 2]
        lines.append(f"{height},{ground},{n % 5},{1000 + 3.7 * n},{KINDS[n % 3]}")
    path = tmp_path / "trees.csv"
    path.write_text("\n".join(lines))
    return path


def test_one_step_of_a_classification(trees, learns_once):
    """A target of words is classified, one logit per word."""
    job = table(trees, "kind", batch_size=8)
    assert learns_once(job).shape == (8, 3)
    assert list(job.classes) == sorted(KINDS)


def test_one_step_of_a_regression(trees, learns_once):
    """A target of numbers is predicted in its own unit; the untrained loss is about 1."""
    job = table(trees, "price", batch_size=8)
    outputs = learns_once(job)
    assert outputs.shape == (8,)
    assert job.classes is None
    assert abs(outputs.mean() - 1110) < 50


@pytest.mark.parametrize(
    ("target", "task", "classes"),
    [
        ("kind", "auto", 3),
        ("age", "auto", 5),
        ("age", "regression", 0),
        ("price", "auto", 0),
        ("ground", "classification", 2),
    ],
)
def test_the_task_follows_the_target_or_the_flag(trees, target, task, classes):
    """Words and at most ten whole numbers are classes, unless it is said otherwise."""
    assert len(class_names(read_columns(trees), target, task)) == classes


def test_whole_number_classes_are_in_their_order(tmp_path):
    """Classes that are numbers are sorted as numbers and spelt without a point."""
    path = tmp_path / "a.csv"
    path.write_text("c\n" + "\n".join(["10", "9", "1"] * 3))
    assert class_names(read_columns(path), "c", "auto") == ["1", "9", "10"]


def test_the_parts_share_no_row_and_follow_the_seed(trees):
    """Training, validation and test rows are all rows; the test rows are the same for all seeds."""
    first, second = table(trees, "price", seed=1), table(trees, "price", seed=2)

    def targets(job):
        loaders = (job.train_loader, job.valid_loader, job.test_loader)
        return [loader.dataset.tensors[1] for loader in loaders]

    assert torch.cat(targets(first)).unique().numel() == 60
    assert torch.equal(targets(first)[2], targets(second)[2])
    assert not torch.equal(targets(first)[1], targets(second)[1])


def test_the_scale_is_that_of_the_training_rows(trees):
    """Mean and deviation leave out gaps and every row that is not for training."""
    job = table(trees, "price")
    inputs, targets = job.train_loader.dataset.tensors
    heights = inputs[:, 0][~inputs[:, 0].isnan()]
    assert torch.allclose(job.model.mean[0], heights.mean())
    assert torch.allclose(job.model.deviation[0], heights.std(correction=0))
    assert torch.allclose(job.model.target_mean, targets.mean())


def test_a_constant_has_deviation_one():
    """Standardising never divides by zero, nor by the nan of an empty column."""
    values = torch.tensor([[2.0, torch.nan], [2.0, torch.nan]])
    mean, deviation = mean_and_deviation(values)
    assert mean.tolist() == [2.0, 0.0]
    assert deviation.tolist() == [1.0, 1.0]


def test_prediction_uses_what_is_saved_with_the_weights(trees, tmp_path):
    """A model that took over saved weights reads rows by the encoding that they were trained with."""
    job = table(trees, "price")
    other = tmp_path / "other.csv"
    other.write_text("ground,age,height,kind\nclay,3,,elm\nsand,9,1e9,unknown\n")
    (first, a), (_, b) = job.read(str(other))
    assert first.endswith("other.csv:2")
    outputs = job.model.eval()(torch.stack([a, b]))
    assert outputs.isfinite().all()
    assert list(job.answer(outputs[0])) == ["price"]

    saved = {name: value.clone() for name, value in job.model.state_dict().items()}
    trees.write_text(trees.read_text().replace("clay", "bogs"))
    again = table(trees, "price")
    again.model.load_state_dict(saved)
    assert torch.equal(next(again.read(str(other)))[1].nan_to_num(-1), a.nan_to_num(-1))


def test_the_answer_of_a_classification_is_its_word():
    """The most likely class is answered with its probability."""
    from loopwright.recipes.table import answer

    assert answer(torch.tensor([0.0, 9.0]), "kind", ["elm", "oak"])["label"] == "oak"


def test_the_absolute_error_is_a_mean_over_all_rows():
    """Batches of different sizes count by their rows."""
    error = AbsoluteError()
    error.update(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
    error.update(torch.tensor([6.0]), torch.tensor([0.0]))
    assert error.compute() == pytest.approx(3.0)
    error.reset()
    error.update(torch.tensor([1.0]), torch.tensor([0.0]))
    assert error.compute() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"target": "pric"}, UsageError, "did you mean 'price'"),
        ({"target": "price", "ignore": ("heigt",)}, UsageError, "did you mean 'height'"),
        ({"target": "height"}, DataError, r"trees\.csv:2 .*'height' is missing"),
        ({"target": "kind", "task": "regression"}, DataError, "needs numbers; 'kind' is 'oak'"),
        ({"target": "price", "task": "classification"}, UsageError, "60 classes in 60 rows"),
    ],
)
def test_wrong_columns_are_errors_before_training(trees, changes, error, says):
    """Unknown columns name the nearest; gaps and words in the target are shown with their row."""
    with pytest.raises(error, match=says):
        table(trees, **changes)


@pytest.mark.parametrize("ignore", [("ground", "kind"), ("height", "age")])
def test_tables_of_one_sort_of_column_train_and_export(trees, learns_once, ignore, tmp_path):
    """With numbers alone or words alone, every parameter learns and any batch size is exported."""
    job = table(trees, "price", ignore=ignore)
    learns_once(job)
    rows = job.train_loader.dataset.tensors[0]
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(job.model.eval(), (rows[:4],), dynamic_shapes=batch)
    torch.export.save(program, tmp_path / "table.pt2")
    assert torch.allclose(program.module()(rows[:9]), job.model(rows[:9]))


def test_ignored_columns_are_not_used(trees):
    """What is to be ignored is no input."""
    assert table(trees, "price", ignore=("kind", "age")).model.numeric == 1


def test_tables_without_a_choice_are_refused(tmp_path):
    """One class, and too few rows for three parts, are errors."""
    path = tmp_path / "a.csv"
    path.write_text("x,c\n1,a\n2,a\n")
    with pytest.raises(DataError, match="the same in every row"):
        table(path, "c")
    path.write_text("x,c\n1,a\n2,b\n")
    with pytest.raises(DataError, match="2 samples are too few"):
        table(path, "c")
