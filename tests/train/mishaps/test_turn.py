"""The facts of a turn, added to the exception that left it; and the folder in which nothing was trained."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from small import loader, make, turn
from torch import nn

import loopwright as lw
from loopwright.errors import NonFiniteError, StateError
from loopwright.train.mishaps import turn as room

EVERY_TURN = lw.Checkpoint(every_steps=1)
THIRD = "in turn 3, epoch 1, on a batch of float32 (4, 3), float32 (4, 1); samples 8 to 11"


def raise_in_python(run, batch):
    raise KeyError("mine")


def raise_in_c(run, batch):
    int("not a number")


def raise_in_torch(run, batch):
    run.model(batch[0][:, :2])


def raise_below(run, batch):
    def inner():
        try:
            raise_in_c(run, batch)
        finally:
            len("clean up")

    inner()


def raise_from_another(run, batch):
    try:
        raise_in_c(run, batch)
    except ValueError as error:
        raise KeyError("mine") from error


def raise_in_with(run, batch):
    with torch.no_grad():
        raise_in_torch(run, batch)


def raise_in_backward(run, batch):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            raise ArithmeticError("in backward")

    run.active.current.backward(Broken.apply(run.model(batch[0])).sum())


WAYS = [
    raise_in_python, raise_in_c, raise_in_torch, raise_below, raise_from_another, raise_in_with,
    raise_in_backward,
]  # fmt: skip


def leave(run, way, at=2, data=None):
    """Train, and raise in turn ``at``."""
    for step in run.loop(loader() if data is None else data, epochs=1):
        if step.index == at:
            way(run, step.batch)
        turn(run, step)


@pytest.mark.parametrize("way", WAYS)
def test_with(way, tmp_path):
    """At the end of a ``with`` block the exception has its turn, batch and samples, and what was saved."""
    with (
        pytest.raises(Exception) as caught,
        make(tmp_path / "run", checkpoint=EVERY_TURN) as run,
    ):
        leave(run, way)
    notes = caught.value.__notes__
    assert notes[0] == THIRD
    assert notes[1].startswith(
        f"saved in {tmp_path / 'run'}: the state after turn 2; the same command"
    )
    assert notes[2:] == [] if way not in (raise_in_torch, raise_in_with) else len(notes) == 3
    outcome = json.loads((tmp_path / "run" / "outcome.json").read_text())["outcome"]
    assert outcome["kind"] == "failed"
    assert outcome["error"].startswith(type(caught.value).__name__)


PROGRAM = """\
import sys
sys.path.insert(0, {tests!r})
import test_turn
from small import make

run = make("run", checkpoint=test_turn.EVERY_TURN)
way = getattr(test_turn, {way!r})
{lines}
"""
IN_A_FUNCTION = "test_turn.leave(run, way)"
AT_THE_TOP = """\
for step in run.loop(test_turn.loader(), epochs=1):
    if step.index == 2:
        way(run, step.batch)
    test_turn.turn(run, step)
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lines", [IN_A_FUNCTION, AT_THE_TOP], ids=["function", "module"])
def test_program(way, lines, run_program, tmp_path):
    """In a program without ``with`` the exception's last words say the turn, and the outcome has them."""
    here = Path(__file__).parent
    text = PROGRAM.format(tests=str(here), way=way.__name__, lines=lines)
    (tmp_path / "program.py").write_text(text)
    path = os.pathsep.join([str(here.parents[2] / "src"), str(here.parent)])
    rc, _, err = run_program(["program.py"], cwd=tmp_path, env={"PYTHONPATH": path})
    assert rc == 1
    assert THIRD in err.splitlines(), err
    assert "saved in run: the state after turn 2; the same command goes on from there" in err
    assert err.count("in turn 3") == 1
    outcome = json.loads((tmp_path / "run" / "outcome.json").read_text())["outcome"]
    assert outcome["error"].rstrip() in err


def test_caught_in_the_program():
    """An exception that the program handles is told where it can be found, and no other ever is."""
    run = make()
    with pytest.raises(ZeroDivisionError) as other:
        try:
            leave(run, raise_from_another)
        except KeyError as error:
            notes = getattr(error, "__notes__", [])
            assert notes[:1] in ([], [THIRD])
            if sys.version_info >= (3, 12):
                assert notes[0] == THIRD
            raise ZeroDivisionError from None
    room.tell(other.value)
    assert getattr(other.value, "__notes__", []) == []
    run.close()


def test_told_once():
    """Telling twice adds nothing."""
    with pytest.raises(KeyError) as caught, make() as run:
        leave(run, raise_in_python)
    room.tell(caught.value)
    assert caught.value.__notes__ == [THIRD, "nothing was saved: the run has no out="]


def test_second_loop(tmp_path):
    """Of several loops the one that was left is named."""
    with pytest.raises(KeyError) as caught, make() as run:
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
        leave(run, raise_in_python)
    assert caught.value.__notes__[0].startswith("in turn 3, epoch 1 of loop 1, on a batch of ")


def test_in_an_evaluation():
    """The body of an evaluation is told with its own batch, before the turn around it."""
    with pytest.raises(RuntimeError) as caught, make() as run:
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            if step.index == 1:
                for batch in run.evaluate(loader(batch_size=6)):
                    run.model(batch[0][:, :2])
    notes = caught.value.__notes__
    assert notes[0] == (
        "in an evaluation, on batch 1 of float32 (6, 3), float32 (6, 1); samples 0 to 5"
    )
    assert notes[1].startswith("in turn 2, epoch 1")
    assert notes[-1].startswith("hint: the layer takes 3 features and was given 2")
    assert sum(note.startswith("hint: ") for note in notes) == 1


def test_after_an_evaluation():
    """An evaluation that ended, or that was left by break, is not blamed for what comes later."""
    with pytest.raises(KeyError) as caught, make() as run:
        for _step in run.loop(loader(), epochs=1):
            for _ in run.evaluate(loader()):
                break
            for _ in run.evaluate(loader()):
                pass
            raise KeyError
    assert caught.value.__notes__[0].startswith("in turn 1")


def test_an_evaluation_alone():
    """An evaluation outside of any loop says so."""
    with pytest.raises(KeyError) as caught, make() as run:
        for _ in run.evaluate(loader()):
            raise KeyError
    assert caught.value.__notes__ == [
        "in an evaluation, on batch 1 of float32 (4, 3), float32 (4, 1); samples 0 to 3"
    ]


def test_in_a_callback():
    """What comes out of the loop itself says after which turn."""
    for moment, words in (("epoch_end", "after turn 6, epoch 1"), ("update", "in turn 1, epoch 1")):
        run = make()

        @run.on(moment)
        def fail(event):
            raise KeyError("mine")

        with pytest.raises(KeyError) as caught, run:
            leave(run, raise_in_python, at=-1)
        assert caught.value.__notes__[0].startswith(words)


def test_errors_of_ours_speak_for_themselves():
    """What the library itself raises names the turn already."""
    with pytest.raises(NonFiniteError) as caught, make() as run:
        for step in run.loop(loader(), epochs=1):
            step.backward(run.model(step.batch[0]).sum() * torch.inf)
    assert not hasattr(caught.value, "__notes__")
    with pytest.raises(StateError) as caught, make() as run:
        for step in run.loop(loader(), epochs=1):
            step.update()
    assert not hasattr(caught.value, "__notes__")


def test_the_label_by_its_sample():
    """A label out of range is told by its sample, although the order is shuffled."""
    labels = torch.zeros(24, dtype=torch.long)
    labels[17] = 2
    data = torch.utils.data.TensorDataset(torch.zeros(24, 3), labels)
    with pytest.raises(IndexError) as caught, make(model=nn.Linear(3, 2)) as run:
        for step in run.loop(data, batch_size=4, shuffle=True, epochs=1):
            x, y = step.batch
            step.backward(nn.functional.cross_entropy(run.model(x), y))
            step.update()
    assert caught.value.__notes__[-1].startswith(
        "hint: sample 17 has label 2, and the model gives 2"
    )


def test_out_of_memory_lists_tensors():
    """Where memory is short the largest tensors are named, by the run's own names."""
    with pytest.raises(RuntimeError) as caught, make(model=nn.Linear(1000, 1000)) as run:
        for step in run.loop([torch.zeros(2, 1000)], epochs=1):
            torch.zeros(1 << 50)
            turn(run, step)
    notes = caught.value.__notes__
    assert any(note.endswith("MB  weight  float32 (1000, 1000)") for note in notes), notes
    assert notes[-1].startswith("hint: smaller batches with accumulate")


# -- the folder ----------------------------------------------------------------------------------


def test_nothing_was_trained(tmp_path):
    """A first turn that fails leaves no folder, nor the folders above it that were made for it."""
    with pytest.raises(KeyError), make(tmp_path / "a" / "b" / "run") as run:
        leave(run, raise_in_python, at=0)
    assert list(tmp_path.iterdir()) == []


def test_nothing_was_trained_without_with(tmp_path):
    """Also where the run is never closed by hand."""
    run = make(tmp_path / "run")
    with pytest.raises(KeyError):
        leave(run, raise_in_python, at=0)
    assert list(tmp_path.iterdir()) == []
    run.close()
    assert list(tmp_path.iterdir()) == []


def test_the_same_run_again(tmp_path):
    """After a first turn that failed, the same run can begin again."""
    run = make(tmp_path / "run")
    with pytest.raises(KeyError):
        leave(run, raise_in_python, at=0)
    leave(run, raise_in_python, at=-1)
    run.close()
    assert (
        json.loads((tmp_path / "run" / "outcome.json").read_text())["outcome"]["kind"] == "finished"
    )


def test_a_mended_model(tmp_path):
    """The same command with another model, after a first turn that failed, is not refused."""
    with pytest.raises(RuntimeError), make(tmp_path / "run", model=nn.Linear(4, 1)) as run:
        leave(run, raise_in_python, at=-1)
    with make(tmp_path / "run", model=nn.Linear(3, 1)) as run:
        leave(run, raise_in_python, at=-1)
    assert (tmp_path / "run" / "final.safetensors").exists()


def test_an_update_is_training(tmp_path):
    """Once the optimizer has stepped the folder stays, with the state before the first turn."""
    with pytest.raises(KeyError), make(tmp_path / "run") as run:
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            raise KeyError
    assert (tmp_path / "run" / "checkpoints" / "loop-0-turn-00000000").is_dir()


def test_an_old_run_comes_back(tmp_path):
    """``resume="never"`` puts the old run aside only for one that trains."""
    with make(tmp_path / "run") as run:
        leave(run, raise_in_python, at=-1)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(KeyError), make(tmp_path / "run", resume="never") as run:
        leave(run, raise_in_python, at=0)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_what_stood_in_the_folder_stays(tmp_path):
    """An empty folder that was there before is there after."""
    (tmp_path / "run").mkdir()
    with pytest.raises(KeyError), make(tmp_path / "run") as run:
        leave(run, raise_in_python, at=0)
    assert list((tmp_path / "run").iterdir()) == []
    with make(tmp_path / "run") as run:
        leave(run, raise_in_python, at=-1)


def test_a_resumed_run_stays(tmp_path):
    """A failure in the first turn after a resume takes nothing back."""
    with pytest.raises(KeyError), make(tmp_path / "run", checkpoint=EVERY_TURN) as run:
        leave(run, raise_in_python, at=3)
    with pytest.raises(KeyError), make(tmp_path / "run", checkpoint=EVERY_TURN) as run:
        leave(run, raise_in_python, at=3)
    assert (tmp_path / "run" / "checkpoints").is_dir()
    with make(tmp_path / "run") as run:
        leave(run, raise_in_python, at=-1)
        assert run.totals["turns"] == 6
