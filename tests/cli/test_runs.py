"""``loopwright runs`` and ``loopwright report``."""

from __future__ import annotations

import shutil

import pytest

from loopwright.cli.runs import run_folders


@pytest.fixture
def several(trained, tmp_path):
    """Give a folder with three copies of a run, the tenth among them."""
    for number in (1, 2, 10):
        shutil.copytree(trained, tmp_path / "runs" / "digits" / str(number))
    (tmp_path / "runs" / "notes").mkdir()
    return tmp_path


def test_order(several):
    """Runs are found at any depth, the tenth after the second."""
    found = [path.name for path in run_folders(several / "runs")]
    assert found == ["1", "2", "10"]


def test_table(run_cli, several):
    """The table has a row for each run; ``runs`` is the folder when none is named."""
    rc, out, err = run_cli("runs", cwd=several, env={"COLUMNS": "160"})
    assert rc == 0, err
    assert out.count("finished") == 3
    assert "runs/digits/10" in out


def test_page(run_cli, several):
    """--html writes the page of curves side by side."""
    rc, out, err = run_cli("runs", "runs/digits", "--html", "page.html", cwd=several)
    assert rc == 0, err
    assert "wrote page.html" in out
    assert "3 runs" in (several / "page.html").read_text()


def test_report(run_cli, several):
    """``report`` writes the run's page again."""
    page = several / "runs/digits/2/report.html"
    page.unlink()
    rc, out, err = run_cli("report", "runs/digits/2", cwd=several)
    assert rc == 0, err
    assert "wrote runs/digits/2/report.html" in out
    assert page.read_text().startswith("<!")


def test_report_cannot_be_written(run_cli, several):
    """Something in the way is exit code 4, and stays."""
    page = several / "runs/digits/2/report.html"
    page.unlink()
    page.mkdir()
    rc, _, err = run_cli("report", "runs/digits/2", cwd=several)
    assert rc == 4
    assert "cannot write" in err
    assert page.is_dir()
