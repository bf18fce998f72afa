"""``loopwright predict``: answers for new data, in a CSV file or on the screen."""

from __future__ import annotations

import csv
import os

import pytest

from loopwright.recipes.digits import load_digits


@pytest.fixture(scope="module")
def rows():
    """Give 40 digits as lines of 64 numbers, and what they are."""
    pixels, labels = load_digits()
    lines = [" ".join(str(int(value * 16)) for value in row) for row in pixels[:40]]
    return lines, labels[:40].tolist()


def test_csv(run_cli, trained, rows, tmp_path):
    """One row for each input, in their order, with the recipe's columns; most of them are right."""
    lines, labels = rows
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    words = ["predict", trained, "rows.csv", "--to", "out.csv"]
    rc, out, err = run_cli(*words, "--batch-size", "7", cwd=tmp_path)
    assert rc == 0, err
    assert "40 answers" in out
    with (tmp_path / "out.csv").open() as file:
        answers = list(csv.DictReader(file))
    assert list(answers[0]) == ["id", "label", "probability"]
    assert [answer["id"] for answer in answers] == [f"rows.csv:{n}" for n in range(1, 41)]
    right = sum(int(a["label"]) == label for a, label in zip(answers, labels, strict=True))
    assert right >= 32
    whole = tmp_path / "whole.csv"
    assert run_cli("predict", trained, tmp_path / "rows.csv", "--to", whole).rc == 0
    assert whole.read_text() == (tmp_path / "out.csv").read_text()


def test_to_a_pipe(run_cli, trained, rows, tmp_path):
    """``--to`` a pipe writes into it, and leaves it what it is."""
    (tmp_path / "rows.csv").write_text("\n".join(rows[0]) + "\n")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    done = run_cli("predict", trained, "rows.csv", "--to", pipe, cwd=tmp_path)
    assert done.rc == 0, done.err
    assert os.read(reader, 1 << 16).decode().startswith("id,label,probability")
    assert pipe.is_fifo()
    os.close(reader)


def test_one_line(run_cli, trained, rows):
    """One input is answered on the screen."""
    rc, out, err = run_cli("predict", trained, rows[0][0])
    assert rc == 0, err
    assert out.split()[0] == "label"
    assert out.split()[2] == "probability"


def test_many_on_the_screen(run_cli, trained, rows, tmp_path):
    """Several inputs without --to are CSV on stdout."""
    (tmp_path / "rows.txt").write_text("\n".join(rows[0][:3]))
    rc, out, _ = run_cli("predict", trained, "rows.txt", cwd=tmp_path)
    assert rc == 0
    assert out.splitlines()[0] == "id,label,probability"
    assert len(out.splitlines()) == 4


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        ("1 2 3", 1, "64 numbers"),
        ("none.csv", 2, "none.csv"),
        ("empty.csv", 2, "empty.csv is empty"),
    ],
)
def test_bad_data(run_cli, trained, tmp_path, data, code, words):
    """Data that can't be read ends with one error, and the old answers stay."""
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "out.csv").write_text("old")
    rc, _, err = run_cli("predict", trained, data, "--to", "out.csv", cwd=tmp_path)
    assert rc == code
    assert words in err
    assert "Traceback" not in err
    assert (tmp_path / "out.csv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.csv", "out.csv"]
