"""``loopwright explain --diff``: two programs, and one before and after a change."""

from __future__ import annotations

import json

import pytest

BEFORE = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(6):
    x = torch.randn(4, 3)
    opt.zero_grad()
    loss = net(x).pow(2).mean()
    loss.backward()
    opt.step()
"""
AFTER = BEFORE.replace("    opt.zero_grad()\n", "")


@pytest.fixture
def explain(run_cli, tmp_path):
    """``explain(words)``: the command in ``tmp_path``, the programs in forks too."""
    return lambda *words: run_cli("explain", *words, cwd=tmp_path, warm_children=True)


@pytest.mark.long
def test_two_programs(explain, tmp_path):
    """Both run; terminal and page say what is gone and what is done differently; JSON holds it all."""
    (tmp_path / "a.py").write_text(BEFORE)
    (tmp_path / "b.py").write_text(AFTER)
    words = ("--no-whatifs", "--json=d.json", "--html", "d.html", "--diff", "a.py", "b.py")
    done = explain(*words)
    assert done.rc == 0, done.err
    assert done.out.startswith("a.py → b.py  1 line is gone, 1 line does something else")
    assert "- opt.zero_grad()" in done.out
    assert "added to what was there" in done.out
    assert all(len(line) <= 100 for line in done.out.splitlines())
    found = json.loads((tmp_path / "d.json").read_text())
    kinds = {one["text_before"]: one["change"] for one in found["lines"]}
    assert kinds["opt.zero_grad()"] == "gone"
    assert kinds["loss.backward()"] == "does"
    assert found["version"] == 1
    page = (tmp_path / "d.html").read_text()
    assert "<del>opt.zero_grad()</del>" in page
    assert "<b>added</b> to what was there" in page


def test_before_and_after_a_change(explain, tmp_path):
    """An earlier ``--json`` is as good as the program that it came from; the exit code is the program's."""
    script = tmp_path / "train.py"
    script.write_text(BEFORE)
    explain("--no-whatifs", "--json=before.json", "train.py")
    done = explain("--no-whatifs", "--html", "none", "--diff", "before.json", "train.py")
    assert done.out.startswith("train.py (before) → train.py  all 9 lines that ran do the same"), (
        done.err
    )
    script.write_text(BEFORE.replace("0.01", "0.02") + "raise SystemExit(5)\n")
    done = explain("--no-whatifs", "--json", "--diff", "before.json", "train.py")
    assert done.rc == 5
    lines = [one for one in json.loads(done.out)["lines"] if not one["follows"]]
    assert [(one["line_after"], one["change"], one["step"]) for one in lines] == [
        (4, "numbers", 0), (10, "numbers", 1)]  # fmt: skip
    assert sorted(one.name for one in tmp_path.iterdir()) == ["before.json", "train.py"]


@pytest.mark.long
def test_flags_after_the_program_are_the_programs(explain, tmp_path):
    """They are given to it, as Python does, and one line says so: a page may have been meant."""
    (tmp_path / "train.py").write_text(f"import sys\nprint(sys.argv[1:])\n{BEFORE}")
    flags = ("--no-whatifs", "--html", "none")
    explain(*flags, "--json=before.json", "train.py")
    words = ("--diff", "before.json", "train.py", "--html", "x.html")
    done = explain(*flags, *words)
    assert done.rc == 0, done.err
    assert "['--html', 'x.html']" in done.out
    assert not (tmp_path / "x.html").exists()
    assert "--html stands after train.py, so both programs get it; flags of explain" in done.err
