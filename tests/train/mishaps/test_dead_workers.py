"""A DataLoader worker that dies: named with its signal, what to do, and no child is left behind."""

from __future__ import annotations

import pytest

from loopwright.errors import DataError
from loopwright.train.mishaps.dead_workers import dead_worker

PROGRAM = """\
import os, signal, sys, time
import torch, loopwright as lw
from torch.utils.data import DataLoader, Dataset


class Data(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        if index == 13:
            {death}
        return torch.full((3,), float(index))


if __name__ == "__main__":
    model = torch.nn.Linear(3, 1)
    run = lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), progress=False)
    loader = DataLoader(Data(), batch_size=4, num_workers={workers}, {settings})
    try:
        for step in run.loop(loader, epochs=1):
            step.backward(run.model(step.batch).sum())
            step.update()
            {body}
    except Exception as error:
        from loopwright.cli.failures import failure

        found = failure(error)
        print(found.what, "|", found.hint, flush=True)
        del error
    run.close()
    import multiprocessing
    print("left", len(multiprocessing.active_children()), flush=True)
"""


def printed(run_program, tmp_path, *, death="pass", body="pass", workers=2, settings=""):
    """What the program prints; it is killed, and the test fails, if it has not ended in 30 s."""
    text = PROGRAM.format(death=death, body=body, workers=workers, settings=settings)
    path = tmp_path / "program.py"
    path.write_text(text)
    rc, out, err = run_program([path], cwd=tmp_path, timeout=30)
    assert rc == 0, err
    return out.splitlines()


@pytest.mark.parametrize(
    ("death", "what", "hint"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL", "memory runs out"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV", "num_workers=0 shows"),
        ("os.abort()", "was ended by SIGABRT", "num_workers=0 shows"),
        ("os.kill(os.getpid(), signal.SIGBUS)", "was ended by SIGBUS", "--shm-size"),
        ("os._exit(3)", "ended with exit code 3", "raise an exception instead"),
        ("sys.exit(4)", "ended with exit code 4", "raise an exception instead"),
    ],
)
def test_how_it_died(run_program, tmp_path, death, what, hint):
    """The message names the process and how it ended, the hint says what that mostly means."""
    said, left = printed(run_program, tmp_path, death=death)
    assert said.startswith("a DataLoader worker (process ")
    assert what in said.partition("|")[0]
    assert hint in said.partition("|")[2]
    assert left == "left 0"


def test_killed_from_outside(run_program, tmp_path):
    """A worker that somebody kills while the body runs is told as one, wherever the program is then."""
    body = (
        "os.kill(run.active.source.iterator._workers[1].pid, signal.SIGKILL)"
        " if step.index == 2 else time.sleep(0.05)"
    )
    said, left = printed(run_program, tmp_path, body=body)
    assert "was ended by SIGKILL" in said
    assert left == "left 0"


@pytest.mark.parametrize(
    "busy",
    [
        pytest.param("time.sleep(600)", marks=pytest.mark.long),
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
    ],
)
def test_busy_workers_are_ended(run_program, tmp_path, busy):
    """Eight workers that never answer are ended together when the body fails, whatever they ignore."""
    death = f"pass\n        if index >= 13:\n            {busy}"
    said, left = printed(run_program, tmp_path, death=death, body="1 / 0", workers=8)
    assert said.startswith("ZeroDivisionError")
    assert left == "left 0"


def test_spawned_worker(run_program, tmp_path):
    """A worker that was started anew dies like a forked one."""
    said, left = printed(
        run_program, tmp_path, death="os._exit(7)", settings="multiprocessing_context='spawn'"
    )
    assert "ended with exit code 7" in said
    assert left == "left 0"


def test_the_end_of_a_good_epoch_is_not_slower(run_program, tmp_path):
    """Control: healthy workers end by themselves."""
    assert printed(run_program, tmp_path) == ["left 0"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("DataLoader worker (pid 12) is killed by signal: Killed. ", "SIGKILL"),
        ("DataLoader worker (pid 12) is killed by signal: Segmentation fault. ", "SIGSEGV"),
        ("DataLoader worker (pid(s) 12, 13) exited unexpectedly", "(process 12) ended"),
        ("DataLoader worker (pid 12) exited unexpectedly with exit code 3. Details", "exit code 3"),
    ],
)
def test_torchs_words(text, what):
    """torch's messages are read without the worker, too: it may be gone."""
    found = dead_worker(RuntimeError(text))
    assert isinstance(found, DataError)
    assert what in found.what


def test_other_errors():
    """Anything else is not a worker's death."""
    assert dead_worker(RuntimeError("DataLoader timed out after 1 seconds")) is None
    assert (
        dead_worker(ValueError("DataLoader worker (pid 12) is killed by signal: Killed. ")) is None
    )
