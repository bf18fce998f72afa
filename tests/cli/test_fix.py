"""``loopwright check --fix`` and ``--diff``: shown first, written, checked again, put back if of no help."""

from __future__ import annotations

import json
import time

import pytest

from checker.watched import watch
from loopwright.checker import merge
from loopwright.cli import fixing
from loopwright.cli.check import Chosen, understand

FAULTY = """\
import torch, sys
torch.manual_seed(0)
net = torch.nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(8):
    x = torch.randn(4, 3)  # a batch
    loss = net(x).pow(2).mean()
    loss.backward()
    opt.step()
"""
FIXED = FAULTY.replace("    loss.backward()", "    opt.zero_grad()\n    loss.backward()")
NOW_FIXED = "if 'opt.zero' + '_grad' in open(__file__).read():\n"


@pytest.fixture
def fix(run_program, tmp_path, monkeypatch, capfd):
    """``fix(text, *flags)``: what --fix came to, with observations in forks of the warmed process."""
    program = tmp_path / "project" / "train.py"
    program.parent.mkdir()
    monkeypatch.chdir(program.parent)
    runs = []

    def observe(_asked, _chosen):
        folder = tmp_path / f"run{len(runs)}"
        folder.mkdir()
        seen = watch(run_program, program, folder / "found.json")
        runs.append(seen)
        record = merge.read(folder)
        record.program.exit_code = int(bool(seen.problems))
        record.program.exception = "SomeError" if seen.problems else None
        return record

    monkeypatch.setattr(fixing, "observe", observe)

    def run(text, *flags):
        program.write_text(text)
        asked, chosen = understand([*flags, "train.py"]), Chosen([], [], None, None)
        since = time.time() + 1
        record = fixing.fix(asked, chosen, observe(asked, chosen), since)
        return record, program.read_text(), capfd.readouterr().err

    run.runs, run.program = runs, program
    return run


def test_a_fix(fix):
    """The diff comes first; the program is written, checked again, and its findings are gone."""
    record, text, err = fix(FAULTY, "--fix")
    assert text == FIXED
    assert record.findings == []
    assert record.notes == ["fixed: missing-zero-grad (train.py:9)"]
    assert err.startswith("--- a/train.py\n+++ b/train.py\n@@ ")
    assert "\n+    opt.zero_grad()\n" in err
    assert err.endswith("wrote fixes of missing-zero-grad (train.py:9); checking again\n")
    assert len(fix.runs) == 2


def test_nothing_to_fix(fix):
    """A correct program is left alone and not run twice."""
    record, text, err = fix(FIXED, "--fix")
    assert (text, err, len(fix.runs)) == (FIXED, "", 1)
    assert record.notes == ["there is nothing that could be fixed for sure"]


def test_a_fix_that_leaves_the_finding(fix):
    """The file is put back when the finding is still there, and that is said."""
    text = FAULTY.replace(
        "torch.manual_seed(0)", f"{NOW_FIXED}    torch.optim.SGD.zero_grad = print"
    )
    record, after, _ = fix(text, "--fix")
    assert after == text
    assert [one.rule for one in record.findings] == ["missing-zero-grad"]
    (note,) = record.notes
    assert note.startswith(
        "put back, nothing is changed: missing-zero-grad is still there at line 11"
    )


def test_a_fix_that_brings_another_finding(fix):
    """The file is put back when something else comes up."""
    worse = (
        NOW_FIXED
        + """\
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Softmax(1))
    other = torch.optim.SGD(net.parameters(), lr=0.01)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(net(x), torch.arange(4))
        other.zero_grad()
        loss.backward()
        other.step()
"""
    )
    record, after, _ = fix(FAULTY + worse, "--fix")
    assert after == FAULTY + worse
    (note,) = record.notes
    assert "put back, nothing is changed: double-softmax came up at line 15" in note


def test_a_fix_that_breaks_the_program(fix):
    """The file is put back when the fixed program fails."""
    text = FAULTY + NOW_FIXED + "    raise SomeError\n"
    record, after, _ = fix(text, "--fix")
    assert after == text
    assert record.notes == ["put back, nothing is changed: the fixed program ended with SomeError"]


def test_an_interrupt_while_checking_again(fix, monkeypatch):
    """Whatever ends the second check puts the file back."""

    def observe(_asked, _chosen):
        assert fix.program.read_text() == FIXED
        raise KeyboardInterrupt

    monkeypatch.setattr(fixing, "observe", observe)
    with pytest.raises(KeyboardInterrupt):
        fix(FAULTY, "--fix")
    assert fix.program.read_text() == FAULTY


def test_a_read_only_program(fix):
    """A file that may not be written is left alone, with the reason."""
    fix.program.write_text(FAULTY)
    fix.program.chmod(0o444)
    asked, chosen = understand(["--fix", "train.py"]), Chosen([], [], None, None)
    record = fixing.fix(asked, chosen, fixing.observe(asked, chosen), time.time() + 1)
    assert record.notes == [
        "not fixed: train.py is not writable",
        "there is nothing that could be fixed for sure",
    ]
    assert fix.program.read_text() == FAULTY


def test_two_files(fix):
    """A mistake in a module of the project is fixed there."""
    (fix.program.parent / "steps.py").write_text(
        "def update(loss, opt):\n    loss.backward()\n    opt.step()\n"
    )
    text = FAULTY.replace("    loss.backward()\n    opt.step()", "    update(loss, opt)")
    text = text.replace("import torch, sys", "import torch\nfrom steps import update")
    record, after, _ = fix(text, "--fix")
    assert (after, record.findings) == (text, [])
    assert "opt.zero_grad()" in (fix.program.parent / "steps.py").read_text()


def test_through_the_command_line(run_cli, tmp_path):
    """``--diff`` writes nothing; ``--fix`` does, and the exit code is that of the fixed program."""
    (tmp_path / "train.py").write_text(FAULTY)
    done = run_cli("check", "--diff", "train.py", cwd=tmp_path, warm_children=True)
    assert done.rc == 1
    assert "+    opt.zero_grad()" in done.err
    assert "note: --fix would fix missing-zero-grad (train.py:9)" in done.err
    assert (tmp_path / "train.py").read_text() == FAULTY
    done = run_cli("check", "--fix", "--json", "train.py", cwd=tmp_path, warm_children=True)
    assert (done.rc, (tmp_path / "train.py").read_text()) == (0, FIXED)
    record = json.loads(done.out)
    assert record["findings"] == []
    assert record["notes"] == ["fixed: missing-zero-grad (train.py:9)"]


def test_without_a_file(run_cli):
    """A program from the command line or stdin has no file to be written."""
    done = run_cli("check", "--fix", "-c", "import torch")
    assert done.rc == 2
    assert "--fix and --diff need a program in a file" in done.err


def test_without_libcst(run_program, tmp_path):
    """What is not installed is named before the program runs."""
    (tmp_path / "train.py").write_text("print('it ran')")
    code = "import sys; sys.modules['libcst'] = None; from loopwright.cli.main import main; "
    done = run_program(
        ["-c", code + "sys.exit(main(['check', '--fix', 'train.py']))"], cwd=tmp_path
    )
    assert done.rc == 2
    assert "pip install 'loopwright[fix]'" in done.err
    assert "it ran" not in done.out + done.err
