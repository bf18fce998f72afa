"""What a program calls things says nothing: in other words it gets the same findings on the same lines."""

from __future__ import annotations

import json
import shutil

import pytest

from checker.cases import MANY
from checker.renaming import renamed
from checker.test_corpus import CORPUS
from checker.watched import PROGRAMS, watch

QUICK = ("missing-zero-grad/trainer_faulty", "061-", "clean/dqn")
NOT_OWN = ("no_torch_training_at_all", "067-skorch-style-estimator")
"""Clean programs without names of their own: one has none, one has those that scikit-learn asks for."""
FILES = sorted(
    file
    for folder in (CORPUS, PROGRAMS)
    for file in folder.glob("*/*.py")
    if file.stem in ("buggy", "fixed")
    or (file.parent.name == "clean" and file.stem not in NOT_OWN)
    or file.stem.endswith(("faulty", "healthy"))
)
TEXT = '''
"""Says
what it does."""
import torch as t
total = 1  # so far
class Model(t.nn.Module):
    width: int = 3
    def __init__(self, size, lr=1):
        super().__init__()
        self.size_of, self.weight = size, lr  # two
    def pairs(self, q, mask=None):
        global total
        # nothing else
        total = [z for z in q if (y := z)]
        return Model(size=3, lr=total), f"{mask:>{self.size_of}}"
made = getattr(Model(2, lr=3), "size_of")
made.lr = t.optim.SGD([], lr=made)
print(made.run(mask=2))
'''
OTHER = '''
"""
"""
import torch as t
q0_ = 1  
class q1_(t.nn.Module):
    q2_: int = 3
    def __init__(q3_, q4_, q5_=1):
        super().__init__()
        q3_.size_of, q3_.weight = q4_, q5_  
    def q6_(q3_, q7_, mask=None):
        global q0_
        
        q0_ = [q8_ for q8_ in q7_ if (q9_ := q8_)]
        return q1_(q4_=3, q5_=q0_), f"{mask:>{q3_.size_of}}"
q10_ = getattr(q1_(2, q5_=3), "size_of")
q10_.lr = t.optim.SGD([], lr=q10_)
print(q10_.run(mask=2))
'''  # noqa: W291, W293


def test_other_words():
    """Every name that is the program's is exchanged, no other, and each line stays where it is."""
    assert renamed(TEXT)[0] == OTHER


def cases():
    """Each program, most of them long."""
    for file in FILES:
        name = f"{file.parent.name}/{file.stem}"
        marks = [] if name.startswith(QUICK) and file.stem != "fixed" else [pytest.mark.long]
        yield pytest.param(file, id=name, marks=marks)


@pytest.mark.parametrize("file", list(cases()))
def test_names_say_nothing(file, run_program, run_cli, tmp_path):
    """The same rules on the same lines, as many steps; the file is called otherwise too."""
    text, names = renamed(file.read_text())
    assert len(names) >= 3
    folder = tmp_path / "other"
    folder.mkdir()
    other = folder / "p.py"
    other.write_text(text)
    for beside in file.parent.glob("*.py"):
        if f"from {beside.stem} import" in text:
            shutil.copy(beside, folder)
    many = any(word in file.read_text() for word in MANY)
    seen = through_command_line if many else alone
    run = run_cli if many else run_program
    assert seen(run, other, tmp_path / "other.json") == seen(run, file, tmp_path / "own.json")


def alone(run_program, file, out):
    """Findings and steps of a program of one process."""
    seen = watch(run_program, file, out)
    return sorted((one.rule, one.severity, one.line) for one in seen.findings), seen.steps


def through_command_line(run_cli, file, out):
    """Findings and steps of a program that starts processes."""
    run_cli("check", f"--json={out}", file, cwd=out.parent)
    told = json.loads(out.read_text())
    found = [(one["rule"], one["severity"], one["line"]) for one in told["findings"]]
    return sorted(found), told["observed"]["steps"]
