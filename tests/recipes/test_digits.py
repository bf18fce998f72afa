"""The digits in the package."""

from __future__ import annotations

import pytest
import torch

from loopwright.errors import DataError, UsageError
from loopwright.recipes.digits import digits, load_digits, most_likely, read_pixels


def test_the_data_is_that_of_scikit_learn():
    """Pixels, labels and their order are those of load_digits()."""
    datasets = pytest.importorskip("sklearn.datasets")
    theirs = datasets.load_digits()
    pixels, labels = load_digits()
    assert torch.equal(pixels * 16, torch.from_numpy(theirs.data).float())
    assert torch.equal(labels, torch.from_numpy(theirs.target).long())


def test_one_step_moves_every_parameter(learns_once):
    """A batch goes through model, loss and optimizer."""
    assert learns_once(digits(batch_size=8)).shape == (8, 10)


def test_the_parts_share_no_digit():
    """Training, validation and test digits are 1,797 in all."""
    job = digits()
    loaders = (job.train_loader, job.valid_loader, job.test_loader)
    assert [len(loader.dataset) for loader in loaders] == [1437, 180, 180]


def test_lines_are_read_for_prediction(tmp_path):
    """A file of digits, one a line, and a single line give the model's inputs with a name."""
    line = ",".join(str(n % 17) for n in range(64))
    path = tmp_path / "some.csv"
    path.write_text(f"{line}\n\n{line.replace(',', ' ')}\n")
    (first, a), (second, b) = read_pixels(str(path))
    assert (first, second) == ("some.csv:1", "some.csv:3")
    assert torch.equal(a, b)
    assert torch.equal(next(read_pixels(line))[1], a)
    assert a.max() == 1
    assert most_likely(torch.tensor([0.0, 9.0]))["label"] == "1"


@pytest.mark.parametrize(
    ("line", "says"),
    [("1 2 3", "not 3"), ("x " * 64, "could not convert"), ("17 " * 64, "seen: 17.0")],
)
def test_lines_that_are_no_digits_are_refused(line, says):
    """A line of another length, with words or other numbers is an error."""
    with pytest.raises(DataError, match=says):
        list(read_pixels(line))


def test_missing_and_empty_files_are_refused(tmp_path):
    """A file that is not there is not taken for a line; an empty one is said to be empty."""
    with pytest.raises(UsageError, match="there is no file"):
        list(read_pixels(str(tmp_path / "none.csv")))
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UsageError, match="is empty"):
        list(read_pixels(str(tmp_path / "empty.txt")))
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        list(read_pixels(str(tmp_path / "bytes.txt")))
    with pytest.raises(UsageError, match="the line is empty"):
        list(read_pixels("  "))
