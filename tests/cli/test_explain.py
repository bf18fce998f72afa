"""``loopwright explain``: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json

import pytest

FAULTY = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(8):
    x = torch.randn(4, 3)
    loss = net(x).pow(2).mean()
    loss.backward()
    opt.step()
print("done", loss.item())
"""


def test_findings_stand_at_their_lines(run_cli, tmp_path):
    """``--check`` runs the program once more, silently; the finding stands under its line."""
    (tmp_path / "train.py").write_text(FAULTY)
    done = run_cli("explain", "--check", "train.py", cwd=tmp_path, warm_children=True)
    assert done.rc == 0, done.err
    said = done.out.count("done") - FAULTY.count('"done"')
    assert said == 2  # by the program, and at the line that printed it
    after = done.out.partition("opt.step()")[2]
    assert "error[missing-zero-grad]" in after.replace("\n", " ")
    page = (tmp_path / "explain-train.html").read_text()
    assert page.index('id="L0-9"') < page.index("missing-zero-grad") < page.index('id="L0-10"')
    assert all(len(line) <= 100 for line in done.out.splitlines())


def test_json_alone(run_cli, tmp_path):
    """``--json`` leaves stdout to the record; what the program prints goes to stderr; no page is written."""
    (tmp_path / "train.py").write_text(FAULTY)
    done = run_cli("explain", "--json", "--no-whatifs", "--steps", "2", "train.py", cwd=tmp_path)
    assert done.rc == 0, done.err
    record = json.loads(done.out)
    assert len(record["steps"]) == 2
    assert [one["whatifs"] for one in record["steps"]] == [[], []]
    assert "done" in done.err
    assert [one.name for one in tmp_path.iterdir()] == ["train.py"]


@pytest.mark.long
def test_no_page(run_cli, tmp_path):
    """``--html none`` writes no page; the program's files are all that is there."""
    (tmp_path / "train.py").write_text(FAULTY)
    words = ("--html", "none", "--no-whatifs", "train.py")
    done = run_cli("explain", *words, cwd=tmp_path, warm_children=True)
    assert done.rc == 0, done.err
    assert "Your step in one view" in done.out
    assert [one.name for one in tmp_path.iterdir()] == ["train.py"]


def test_show(run_cli, tmp_path):
    """``--show`` prints the tutorial, which is a program."""
    done = run_cli("explain", "--show", cwd=tmp_path)
    assert done.rc == 0
    compile(done.out, "tutorial.py", "exec")
    assert "optimizer.zero_grad()" in done.out


def test_refusals(run_cli, tmp_path):
    """A program that is not there, and one without torch, are told in one line."""
    done = run_cli("explain", "nowhere.py", cwd=tmp_path)
    assert (done.rc, "there is no file nowhere.py" in done.err) == (2, True)
    assert "loopwright explain -- nowhere.py" in done.err
    (tmp_path / "empty.py").write_text("print('nothing')\n")
    done = run_cli("explain", "empty.py", cwd=tmp_path)
    assert (done.rc, "there is nothing to explain" in done.err) == (2, True)
