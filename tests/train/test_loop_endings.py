"""How a loop ends: its limit, break, return, an exception, a signal; and what the same command does then."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import signal
import threading
import time
import weakref
from pathlib import Path

import pytest
import torch
from small import equal, loader, make, turn, weights
from tqdm import tqdm

import loopwright as lw
from loopwright.errors import StateError

EVERY_TURN = lw.Checkpoint(every_steps=1)


def endings(run) -> list[str]:
    """How each loop of a run ended, as its listeners were told."""
    seen = []
    run.on("loop_end", lambda event: seen.append(event.values["how"]))
    return seen


def break_plainly(run):
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
        if step.index == 2:
            break


def break_in_with(run):
    for step in run.loop(loader(), epochs=1):
        with torch.enable_grad():
            turn(run, step)
            if step.index == 2:
                break


def break_in_finally(run):
    for step in run.loop(loader(), epochs=1):
        try:
            turn(run, step)
            if step.index == 2:
                break
        finally:
            len("clean up")


def break_in_except(run):
    for step in run.loop(loader(), epochs=1):
        try:
            turn(run, step)
            if step.index == 2:
                raise KeyError
        except KeyError:
            break


def break_inner_continue(run):
    for step in run.loop(loader(), epochs=1):
        for i in range(3):
            if i == 1:
                break
        turn(run, step)
        if step.index < 2:
            continue
        break


def return_none(run):
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
        if step.index == 2:
            return


def return_value(run):
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
        if step.index == 2:
            return step.index + 1
    return None


def return_in_with(run):
    for step in run.loop(loader(), epochs=1):
        with torch.enable_grad():
            turn(run, step)
            if step.index == 2:
                return [step.index]
    return None


def return_in_finally(run):
    for step in run.loop(loader(), epochs=1):
        try:
            turn(run, step)
            if step.index == 2:
                return 1
        finally:
            len("clean up")
    return None


def break_enumerate(run):
    for i, step in enumerate(run.loop(loader(), epochs=1)):
        turn(run, step)
        if i == 2:
            break


def break_tqdm(run):
    for step in tqdm(run.loop(loader(), epochs=1), disable=None):
        turn(run, step)
        if step.index == 2:
            break


def break_enumerate_tqdm(run):
    for i, step in enumerate(tqdm(run.loop(loader(), epochs=1), disable=None)):
        turn(run, step)
        if i == 2:
            break


def break_zip(run):
    for step, _ in zip(run.loop(loader(), epochs=1), itertools.count(), strict=False):
        turn(run, step)
        if step.index == 2:
            break


def shorter_zip(run):
    for _, step in zip(range(3), run.loop(loader(), epochs=1), strict=False):
        turn(run, step)


def sliced(run):
    for step in itertools.islice(run.loop(loader(), epochs=1), 3):
        turn(run, step)


def a_generator_of_mine(run):
    def turns():
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            yield step

    for step in turns():
        if step.index == 2:
            break


def break_inside_a_generator_of_mine(run):
    def turns():
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            yield step.index
            if step.index == 2:
                break

    assert list(turns()) == [0, 1, 2]


LEFT = [
    break_inside_a_generator_of_mine,
    break_plainly,
    break_in_with,
    break_in_finally,
    break_in_except,
    break_inner_continue,
    return_none,
    return_value,
    return_in_with,
    return_in_finally,
    break_enumerate,
    break_tqdm,
    break_enumerate_tqdm,
    break_zip,
    shorter_zip,
    sliced,
    a_generator_of_mine,
]


@pytest.mark.parametrize("leave", LEFT)
def test_left_early(leave, tmp_path):
    """Break and return end a loop, whatever stands around it or around the break."""
    run = make(tmp_path / "run")
    seen = endings(run)
    leave(run)
    assert seen == ["break"]
    assert run.outcome.kind == "finished"
    assert (run.totals["turns"], run.totals["updates"]) == (3, 3)
    assert run.active is None


@pytest.mark.parametrize("leave", [break_plainly, return_in_finally, break_enumerate_tqdm, sliced])
def test_left_early_is_ended(leave, tmp_path):
    """The same command again yields no turn and has the state at the break, generators included."""
    torch.manual_seed(5)
    first = make(tmp_path / "run")
    leave(first)
    after = torch.rand(3)
    first.close()

    torch.manual_seed(5)
    again = make(tmp_path / "run")
    assert [step.index for step in again.loop(loader(), epochs=1)] == []
    assert equal(weights(first), weights(again))
    assert torch.equal(after, torch.rand(3))


def raise_plainly(run):
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
        if step.index == 2:
            raise KeyError("mine")


def raise_in_call(run):
    def fail():
        raise KeyError("mine")

    for step in run.loop(loader(), epochs=1):
        turn(run, step)
        if step.index == 2:
            fail()


def raise_in_with(run):
    for step in run.loop(loader(), epochs=1):
        with torch.enable_grad():
            turn(run, step)
            if step.index == 2:
                raise KeyError("mine")


def raise_in_finally(run):
    for step in run.loop(loader(), epochs=1):
        try:
            turn(run, step)
            if step.index == 2:
                raise KeyError("mine")
        finally:
            len("clean up")


def raise_again(run):
    for step in run.loop(loader(), epochs=1):
        try:
            turn(run, step)
            if step.index == 2:
                {}["mine"]
        except KeyError:
            len("noted")
            raise


def raise_subscript(run):
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
        if step.index == 2:
            return {}["mine"]
    return None


def raise_enumerate(run):
    for i, step in enumerate(run.loop(loader(), epochs=1)):
        turn(run, step)
        if i == 2:
            raise KeyError("mine")


def raise_tqdm(run):
    for step in tqdm(run.loop(loader(), epochs=1), disable=None):
        turn(run, step)
        if step.index == 2:
            raise KeyError("mine")


def raise_zip(run):
    for step, _ in zip(run.loop(loader(), epochs=1), itertools.count(), strict=False):
        turn(run, step)
        if step.index == 2:
            raise KeyError("mine")


def raise_in_zipped(run):
    def others():
        yield from range(3)
        raise KeyError("mine")

    for step, _ in zip(run.loop(loader(), epochs=1), others(), strict=False):
        turn(run, step)


def raise_inside_a_generator_of_mine(run):
    def turns():
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            yield step.index
            if step.index == 2:
                raise KeyError("mine")

    for _ in turns():
        pass


FAILED = [
    raise_inside_a_generator_of_mine,
    raise_plainly,
    raise_in_call,
    raise_in_with,
    raise_in_finally,
    raise_again,
    raise_subscript,
    raise_enumerate,
    raise_tqdm,
    raise_zip,
    raise_in_zipped,
]


@pytest.mark.parametrize("fail", FAILED)
def test_failed(fail, tmp_path):
    """An exception in the body fails the run, whatever stands around the loop or the raise."""
    run = make(tmp_path / "run")
    seen = endings(run)
    with pytest.raises(KeyError, match="mine"):
        fail(run)
    assert seen == []
    assert run.outcome.kind == "failed"
    assert run.active is None


@pytest.mark.parametrize("fail", [raise_plainly, raise_tqdm, raise_in_zipped])
def test_failed_is_resumable(fail, tmp_path):
    """The same command after an exception goes on, and ends with the bits of a run without one."""
    whole = make()
    for step in whole.loop(loader(), epochs=1):
        turn(whole, step)
    with pytest.raises(KeyError), make(tmp_path / "run", checkpoint=EVERY_TURN) as run:
        fail(run)
    again = make(tmp_path / "run", checkpoint=EVERY_TURN)
    indices = []
    for step in again.loop(loader(), epochs=1):
        turn(again, step)
        indices.append(step.index)
    # The turn that failed is repeated: the state is that of the boundary before it.
    assert indices == ([2, 3, 4, 5] if fail is not raise_in_zipped else [3, 4, 5])
    assert again.outcome.kind == "finished"
    assert equal(weights(whole), weights(again))


def test_with_run_makes_it_certain(tmp_path):
    """Inside ``with run:`` an exception that left the loop is named in the outcome."""
    run = make(tmp_path / "run")
    with pytest.raises(KeyError), run:
        raise_plainly(run)
    assert run.outcome.kind == "failed"
    assert "KeyError" in run.outcome.reason
    assert run.closed


def test_exception_after_the_loop(tmp_path):
    """An exception after a loop that had ended fails the run, and the loop stays ended."""
    with pytest.raises(KeyError), make(tmp_path / "run") as run:
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
        raise KeyError("later")
    assert run.outcome.kind == "failed"
    again = make(tmp_path / "run")
    assert list(again.loop(loader(), epochs=1)) == []
    assert equal(weights(run), weights(again))


def test_continue_skips_a_batch():
    """``continue`` before backward is a batch that was skipped on purpose, and is counted."""
    run = make()
    for step in run.loop(loader(), epochs=1):
        if step.index in (1, 4):
            continue
        turn(run, step)
    assert (run.totals["turns"], run.totals["updates"], run.totals["skipped"]) == (6, 4, 2)


def test_skip_throws_gradients_away():
    """step.skip() throws the gradients away and counts the batch as skipped."""
    run = make()
    for step in run.loop(loader(), epochs=1):
        step.backward(run.model(step.batch[0]).sum())
        if step.index == 1:
            step.skip()
        else:
            step.update()
    assert (run.totals["updates"], run.totals["skipped"]) == (5, 1)
    assert run.model.weight.grad is None


def test_break_after_backward():
    """A turn left between backward and update leaves the weights as they were, and a note."""
    run = make()
    for step in run.loop(loader(), epochs=1):
        before = weights(run)
        step.backward(run.model(step.batch[0]).sum())
        break
    assert equal(before, weights(run))
    assert run.model.weight.grad is None
    assert any("nobody used" in note for note in run.notes)


def test_break_in_a_window():
    """A break after update() inside a window closes the window for what it holds."""
    run = make(accumulate=4)
    for step in run.loop(loader(), epochs=1):
        before = weights(run)
        turn(run, step)
        if step.index == 1:
            break
    assert not equal(before, weights(run))
    assert run.totals["updates"] == 1


def test_stop():
    """run.stop ends the loop after the turn, with its reason."""
    run = make()
    seen = endings(run)
    for step in run.loop(loader(), epochs=3):
        turn(run, step)
        if step.index == 7:
            run.stop("enough")
            after = True
    assert after
    assert seen == ["stop"]
    assert (run.outcome.kind, run.outcome.reason) == ("stopped", "enough")
    assert run.totals["turns"] == 8


def test_stop_is_ended(tmp_path):
    """A stopped loop is ended: the same command again yields no turn."""
    run = make(tmp_path / "run")
    for step in run.loop(loader(), epochs=3):
        turn(run, step)
        if step.index == 7:
            run.stop("enough")
    run.close()
    again = make(tmp_path / "run")
    assert list(again.loop(loader(), epochs=3)) == []
    assert equal(weights(run), weights(again))


def test_kept_iterator():
    """An iterator that somebody keeps holds the loop open until it is closed."""
    run = make()
    kept = iter(run.loop(loader(), epochs=1))
    turn(run, next(kept))
    assert run.active is not None
    kept.close()
    assert run.active is None
    with pytest.raises(StopIteration):
        next(kept)


def test_exhausted_loop_needs_no_close():
    """enumerate, tqdm and zip around a loop see every turn, and the loop ends at its limit."""
    for around in (enumerate, tqdm, lambda it: zip(it, range(99), strict=False)):
        run = make()
        seen = endings(run)
        for item in around(run.loop(loader(), epochs=1)):
            parts = item if isinstance(item, tuple) else (item,)
            turn(run, next(part for part in parts if not isinstance(part, int)))
        assert seen == ["limit"]
        assert run.totals["turns"] == 6


@pytest.mark.parametrize("how", ["limit", "break", "exception"])
@pytest.mark.parametrize("folder", [None, "run"])
def test_workers_go_with_their_loader(how, folder, tmp_path):
    """Persistent workers end when nobody has their loader any more: they wait for no collection.

    In one they would be found by any process that is forked from here until then.
    """

    def program():
        data, validation = (loader(num_workers=1, persistent_workers=True) for _ in range(2))
        with make(folder and tmp_path / folder) as run, contextlib.suppress(ZeroDivisionError):
            for step in run.loop(data, epochs=2):
                turn(run, step)
                if step.ends_epoch:
                    assert len(list(run.evaluate(validation))) == 6
                if step.index == 8 and how != "limit":
                    if how == "break":
                        break
                    1 / 0  # noqa: B018 - the exception that leaves the body
        return [weakref.ref(one._iterator) for one in (data, validation)]

    make()  # torch keeps the frames of its first optimizer
    gc.disable()
    try:
        assert [one() for one in program()] == [None, None]
    finally:
        gc.enable()


def test_error_at_the_end_is_not_lost(tmp_path, monkeypatch):
    """What fails while a break closes the loop is raised at the run's next use."""
    run = make(tmp_path / "run")
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
        monkeypatch.setattr(run.files, "save", lambda *a, **k: 1 / 0)
        break
    with pytest.raises(ZeroDivisionError):
        run.loop(loader(), epochs=1)


PROGRAM = """
import os, signal, sys, time
import torch
sys.path.insert(0, {tests!r})
from small import loader, make, turn, weights
import loopwright as lw

lw.seed(0)
layers = [torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1)]
run = make({out!r}, model=torch.nn.Sequential(*layers))
{head}
for step in run.loop(loader(shuffle=True), epochs=3):
    turn(run, step)
    {body}
{tail}
print("turns", int(run.totals["turns"]))
print("weights", [p.tolist() for p in weights(run)], torch.rand(2).tolist())
"""


def program(folder, *, out="run", head="", body="pass", tail=""):
    """Write a training program; ``body`` runs at each turn."""
    text = PROGRAM.format(
        tests=str(Path(__file__).parent), out=out, head=head,
        body=body.replace("\n", "\n    "), tail=tail,
    )  # fmt: skip
    path = folder / "train.py"
    path.write_text(text)
    return path


KEPT = """
import sys
sys.path.insert(0, {tests!r})
from small import loader, make, turn

run = make("run")
it = iter(run.loop(loader(), epochs=3))
for _ in range(4):
    turn(run, next(it))
"""


@pytest.mark.parametrize(("tail", "kind"), [("", "finished"), ("raise ValueError(7)", "failed")])
def test_kept_until_the_process_ends(tail, kind, run_program, tmp_path):
    """A program that takes turns by hand and ends has left the loop there, quietly."""
    path = tmp_path / "train.py"
    path.write_text(KEPT.format(tests=str(Path(__file__).parent)) + tail)
    rc, _, err = run_program([path], cwd=tmp_path)
    assert (rc, "Exception ignored" in err) == (int(bool(tail)), False)
    outcome = json.loads((tmp_path / "run" / "outcome.json").read_text())
    assert (outcome["outcome"]["kind"], outcome["totals"]["updates"]) == (kind, 4)
    saved = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert ("loop-0-end" in saved) == (kind == "finished")


ELSEWHERE = {
    "a forked child's end": """
import os
def files():
    return {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
before = files()
if os.fork() == 0:
    sys.exit(0)
os.wait()
print([path.name for path, data in files().items() if before.get(path) != data], flush=True)
turn(run, next(it))
""",
    "a thread that still trains": """
import threading, time
it.close()
def train():
    for step in run.loop(loader(), epochs=1000):
        turn(run, step)
        begun.set()
        time.sleep(60)
begun = threading.Event()
threading.Thread(target=train, daemon=True).start()
begun.wait()
""",
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_an_end_elsewhere_is_not_the_loops(what, run_program, tmp_path):
    """Only the thread that began a loop, of the process that did, ends it at the process's end."""
    path = tmp_path / "train.py"
    path.write_text(KEPT.format(tests=str(Path(__file__).parent)) + ELSEWHERE[what])
    rc, out, err = run_program([path], cwd=tmp_path)
    assert (rc, "Exception ignored" in err) == (0, False), err
    saved = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    if what == "a forked child's end":
        assert out.strip() == "[]"
        assert "loop-0-end" in saved
    else:
        assert not any(name.startswith("loop-1") and name.endswith("end") for name in saved)


@pytest.fixture(scope="module")
def uninterrupted(program_server, tmp_path_factory):
    """What the program prints when nothing happens to it."""
    folder = tmp_path_factory.mktemp("whole")
    result = program_server.start([program(folder)], cwd=folder).wait()
    assert result.rc == 0, result.err
    return result.out


CODES = {signal.SIGINT: -signal.SIGINT, signal.SIGTERM: 143}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", [0, 5, 16, 17])
def test_signal(number, when, run_program, tmp_path, uninterrupted):
    """Ctrl-C and SIGTERM finish the turn and end with 130 and 143; the same command then gives the same bits.

    (Python ends itself with SIGINT after an uncaught KeyboardInterrupt, which a shell shows as 130.)
    """
    body = f"""\
if step.index == {when} and not os.path.exists("sent"):
    open("sent", "w").close()
    os.kill(os.getpid(), {int(number)})
    time.sleep(0)
    print("body ended at", step.index, flush=True)"""
    path = program(tmp_path, body=body)
    rc, out, err = run_program([path], cwd=tmp_path)
    assert rc == CODES[number], err
    assert out == f"body ended at {when}\n"
    assert "finishing this turn" in err
    rc, out, err = run_program([path], cwd=tmp_path)
    assert (rc, out) == (0, uninterrupted), err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_validation(number, run_program, tmp_path, uninterrupted):
    """A signal during validation leaves it at once; the turn is repeated with the same bits."""
    body = f"""\
if step.ends_epoch:
    for i, batch in enumerate(run.evaluate(loader())):
        if step.epoch == 1 and i == 1 and not os.path.exists("sent"):
            open("sent", "w").close()
            os.kill(os.getpid(), {int(number)})
        if os.path.exists("sent") and not os.path.exists("over"):
            open("over", "w").close()
            print("batch", i, flush=True)"""
    path = program(tmp_path, body=body)
    rc, out, err = run_program([path], cwd=tmp_path)
    assert rc == CODES[number], err
    assert out == "batch 1\n"
    rc, out, err = run_program([path], cwd=tmp_path)
    assert (rc, out) == (0, uninterrupted), err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_a_callbacks_validation(number, run_program, tmp_path, uninterrupted):
    """The same where a callback validates at the epoch's end: the epoch's last turn is repeated."""
    head = f"""\
import loopwright.train.state.boundary
loopwright.train.state.boundary.SHARE, loopwright.train.state.boundary.APART = 1e9, 0.0
def validate(event):
    for i, batch in enumerate(run.evaluate(loader())):
        if event.epoch == 1 and i == 1 and not os.path.exists("sent"):
            open("sent", "w").close()
            os.kill(os.getpid(), {int(number)})
            print("batch", i, flush=True)
run.on("epoch_end", validate)"""
    path = program(tmp_path, head=head)
    rc, out, err = run_program([path], cwd=tmp_path)
    assert rc == CODES[number], err
    assert out == "batch 1\n"
    assert (tmp_path / "run/checkpoints/loop-0-turn-00000011").is_dir()
    rc, out, err = run_program([path], cwd=tmp_path)
    assert (rc, out) == (0, uninterrupted), err


def test_signal_while_data_is_awaited(run_program, tmp_path, uninterrupted):
    """A fetch that does not end by itself is given up: the turn's beginning is saved."""
    head = """\
import loopwright.train.process.signals as signals
signals.PATIENCE = 0.1
from torch.utils.data import DataLoader, TensorDataset
from small import dataset
class Slow(TensorDataset):
    asked = 0
    def __getitem__(self, i):
        Slow.asked += 1
        if Slow.asked == 30 and not os.path.exists("sent"):
            open("sent", "w").close()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return super().__getitem__(i)
def loader(**settings):
    return DataLoader(Slow(*dataset().tensors), batch_size=4, **settings)"""
    path = program(tmp_path, head=head)
    rc, out, err = run_program([path], cwd=tmp_path, timeout=40)
    assert (rc, out) == (143, ""), err
    assert (tmp_path / "run/checkpoints/loop-0-turn-00000005").is_dir()
    rc, out, err = run_program([path], cwd=tmp_path)
    assert (rc, out) == (0, uninterrupted), err


def test_ctrl_c_reaches_workers_too(start_program, tmp_path):
    """A terminal sends Ctrl-C to the workers as well: they let it pass, and the turn gets its batches."""
    tail = "import multiprocessing; print('left', multiprocessing.active_children())"
    body = """\
print("at", step.index, flush=True)
time.sleep(0.02)"""
    path = program(tmp_path, body=body, tail=tail)
    text = path.read_text().replace("loader(shuffle=True)", "loader(shuffle=True, num_workers=2)")
    path.write_text(text.replace("epochs=3", "epochs=300"))
    running = start_program([path], cwd=tmp_path)
    wait_for(running, lambda: "at 8" in running.out)
    os.killpg(running.pid, signal.SIGINT)
    rc, _, err = running.wait(60)
    assert rc == -signal.SIGINT, err
    assert err.count("finishing this turn") == 1
    assert "exited unexpectedly" not in err


def test_slurms_warning(run_program, tmp_path, uninterrupted):
    """Under SLURM its warning signal means: finish the turn, save, end."""
    body = """\
if step.index == 5 and not os.path.exists("sent"):
    open("sent", "w").close()
    os.kill(os.getpid(), signal.SIGUSR1)"""
    path = program(tmp_path, body=body)
    rc, out, err = run_program([path], cwd=tmp_path, env={"SLURM_JOB_ID": "7"})
    assert (rc, out) == (143, ""), err
    assert "SIGUSR1: finishing this turn" in err
    rc, out, err = run_program([path], cwd=tmp_path, env={"SLURM_JOB_ID": "7"})
    assert (rc, out) == (0, uninterrupted), err


def test_slurms_warning_with_a_handler_of_ones_own(run_program, tmp_path, uninterrupted):
    """A program that does something of its own when it is warned goes on doing it."""
    head = "signal.signal(signal.SIGUSR1, lambda *_: print('mine', flush=True))"
    body = "if step.index == 5: os.kill(os.getpid(), signal.SIGUSR1)"
    path = program(tmp_path, head=head, body=body)
    rc, out, err = run_program([path], cwd=tmp_path, env={"SLURM_JOB_ID": "7"})
    assert (rc, out) == (0, "mine\n" + uninterrupted), err


def test_without_slurm_the_signal_is_nobodys(run_program, tmp_path):
    """Elsewhere SIGUSR1 does what it always does."""
    path = program(tmp_path, body="os.kill(os.getpid(), signal.SIGUSR1)")
    assert run_program([path], cwd=tmp_path).rc == -signal.SIGUSR1


def test_a_childs_sigterm_is_its_own(run_program, tmp_path, uninterrupted):
    """A process that is forked inside the loop ends by SIGTERM as it would without the run."""
    head = "import multiprocessing as mp"
    body = """\
if step.index == 2:
    child = mp.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    child.start()
    time.sleep(0.2)
    child.terminate()
    child.join(20)
    print("child", child.exitcode, flush=True)"""
    path = program(tmp_path, head=head, body=body)
    rc, out, err = run_program([path], cwd=tmp_path)
    assert (rc, out) == (0, "child -15\n" + uninterrupted), err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_at_once(number, start_program, tmp_path):
    """A second signal ends a turn that does not end by itself."""
    body = "print('in', flush=True)\nwhile True: time.sleep(0.01)"
    running = start_program([program(tmp_path, body=body)], cwd=tmp_path)
    wait_for(running, lambda: "in\n" in running.out)
    running.send_signal(number)
    wait_for(running, lambda: "once more" in running.err)
    assert running.running()
    running.send_signal(number)
    assert running.wait(30).rc == CODES[number]


def wait_for(running, condition):
    """Wait until something is seen of a program that runs."""
    end = time.monotonic() + 60
    while not condition():
        assert running.running(), running.err
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_then_break(number, run_program, tmp_path):
    """A signal in a body that then breaks is not lost: the program does not end with 0."""
    body = f"""\
if step.index == 2:
    os.kill(os.getpid(), {int(number)})
    time.sleep(0)
    break"""
    rc, _, err = run_program([program(tmp_path, body=body, tail="time.sleep(2)")], cwd=tmp_path)
    assert rc == CODES[number], err


def test_signal_under_with_run(run_program, tmp_path):
    """``with run:`` closes the run on Ctrl-C; the outcome says interrupted."""
    text = program(tmp_path).read_text()
    loop = text[text.index("for step") :]
    text = text.replace(loop, "with run:\n" + "".join(f"    {x}\n" for x in loop.splitlines()))
    text = text.replace(
        "turn(run, step)", "turn(run, step); step.index == 3 and os.kill(os.getpid(), 2)"
    )
    (tmp_path / "train.py").write_text(text)
    rc, _, err = run_program([tmp_path / "train.py"], cwd=tmp_path)
    assert rc == -signal.SIGINT, err
    outcome = json.loads((tmp_path / "run" / "outcome.json").read_text())["outcome"]
    assert outcome["kind"] == "interrupted"


def test_handlers_are_given_back():
    """The user's signal handlers are back after a loop, whatever ended it, and are chained to."""
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("mine"))
    try:
        mine = signal.getsignal(signal.SIGTERM)
        run = make()
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            assert signal.getsignal(signal.SIGTERM) != mine
            break
        assert signal.getsignal(signal.SIGTERM) is mine
        with pytest.raises(StateError):
            for step in run.loop(loader(), epochs=1):
                step.backward(run.model(step.batch[0]).sum())
        assert signal.getsignal(signal.SIGTERM) is mine
        with pytest.raises(SystemExit) as caught:
            for step in run.loop(loader(), epochs=1):
                turn(run, step)
                signal.raise_signal(signal.SIGTERM)
        assert caught.value.code == 143
        assert seen == ["mine"]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ignored_signal_stays_ignored():
    """A signal that the program ignores is left alone."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        run = make()
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            signal.raise_signal(signal.SIGTERM)
        assert run.totals["turns"] == 6
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_a_thread():
    """In another thread than the main one a loop runs, and touches no handler."""
    before = signal.getsignal(signal.SIGINT)
    run = make()
    during = []

    def work():
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            during.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert run.totals["turns"] == 6
    assert set(during) == {before}


def test_same_process_again(tmp_path, uninterrupted, run_program):
    """A program that fails and is run again in the same process ends as if nothing had happened."""
    body = """\
if step.index == 7 and not os.path.exists("failed"):
    open("failed", "w").close()
    raise KeyError("once")"""
    program(tmp_path, body=body)
    twice = """
import runpy
try:
    runpy.run_path("train.py", run_name="__main__")
except KeyError:
    runpy.run_path("train.py", run_name="__main__")
"""
    rc, out, err = run_program(["-c", twice], cwd=tmp_path)
    assert (rc, out) == (0, uninterrupted), err


def test_failed_new_process(tmp_path, uninterrupted, run_program):
    """A program that failed is run again in a new process and ends with the same bits."""
    body = """\
if step.index == 7 and not os.path.exists("failed"):
    open("failed", "w").close()
    raise KeyError("once")"""
    path = program(tmp_path, body=body)
    first = run_program([path], cwd=tmp_path)
    assert first.rc == 1
    assert "KeyError: 'once'" in first.err.splitlines()
    rc, out, err = run_program([path], cwd=tmp_path)
    assert (rc, out) == (0, uninterrupted), err


def test_finished_new_process(tmp_path, uninterrupted, run_program):
    """A finished program run again trains nothing and prints the same."""
    path = program(tmp_path)
    assert run_program([path], cwd=tmp_path).out == uninterrupted
    assert run_program([path], cwd=tmp_path).out == uninterrupted
