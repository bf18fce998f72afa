"""``loopwright train``: what was asked is what is trained, saved, resumed and refused."""

from __future__ import annotations

import json
import signal
import time

import pytest
import torch

from loopwright.checkpoint.weights import load_weights_file

RECIPE = '''\
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        {sample}
        return torch.full((3,), index / 64), index % 2


@lw.recipe
def mine(lr: float = 0.1, workers: int = 0, wait: float = 0.0) -> lw.Job:
    """Learn nothing much.

    Args:
        lr: step size.
        workers: processes that load.
        wait: seconds.
    """
    import time

    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.1), nn.Linear(8, 2))

    def loss(model, batch):
        time.sleep(wait)
        inputs, target = batch
        outputs = model(inputs)
        {body}
        return nn.functional.cross_entropy(outputs, target), outputs, target

    return lw.Job(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr),
        compute_loss=loss,
        train_loader=DataLoader(Data(), batch_size=8, shuffle=True, num_workers=workers),
        valid_loader=DataLoader(Data(), batch_size=32),
        metrics=["accuracy"],
        epochs=2,
    )
'''


def write(folder, *, body="pass", sample="pass"):
    """Write the recipe as mine.py, with a line of the test's own in the loss or in the data set."""
    (folder / "mine.py").write_text(RECIPE.replace("{body}", body).replace("{sample}", sample))


def asked(folder):
    """What run.json says."""
    return json.loads((folder / "run.json").read_text())


def weights(folder):
    """The run's final weights."""
    return load_weights_file(folder / "final.safetensors")[0]


def same(one, other):
    """Whether two sets of weights are equal, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_built_in(trained):
    """A run of a built-in recipe has its report and says how it was asked for."""
    run = asked(trained)
    assert run["recipe"]["name"] == "digits"
    assert run["recipe"]["file"] is None
    assert run["recipe"]["parameters"]["hidden"] == 64
    assert run["recipe"]["parameters"]["lr"] == 0.002
    assert run["settings"]["epochs"] == 2
    assert run["settings"]["ema"] == 0.9
    assert (trained / "report.html").read_text().startswith("<!")
    assert (trained / "final.safetensors").exists()


def test_file(run_cli, tmp_path):
    """A file's recipe is trained, its flags reach it, and no __pycache__ is left beside it."""
    write(tmp_path)
    rc, out, err = run_cli("train", "mine.py", "--lr", "0.5", "--steps", "5", cwd=tmp_path)
    assert rc == 0, err
    assert "runs/mine/1" in out
    run = asked(tmp_path / "runs/mine/1")
    assert run["recipe"]["file"] == str(tmp_path / "mine.py")
    assert run["recipe"]["parameters"] == {"lr": 0.5, "workers": 0, "wait": 0.0}
    outcome = json.loads((tmp_path / "runs/mine/1/outcome.json").read_text())
    assert outcome["totals"]["turns"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py", "runs"]


def test_settings_file(run_cli, tmp_path):
    """A settings file names the recipe beside it; the command line wins."""
    (tmp_path / "below").mkdir()
    write(tmp_path / "below")
    (tmp_path / "below" / "s.toml").write_text(
        'recipe = "mine.py"\nlr = 0.5\nsteps = 3\nprecision = "bf16"\ncheckpoint-every = "2epochs"\n'
    )
    rc, _, err = run_cli("train", "below/s.toml", "--steps", "4", cwd=tmp_path)
    assert rc == 0, err
    run = asked(tmp_path / "runs/mine/1")
    assert run["recipe"]["parameters"]["lr"] == 0.5
    assert run["settings"]["precision"] == "bf16"
    assert run["settings"]["steps"] == 4


def test_seed_before_the_recipe(run_cli, tmp_path):
    """The seed is set before the recipe runs, so its initial weights and order are repeatable."""
    write(tmp_path)
    for number, seed in enumerate(["3", "3", "4"], start=1):
        rc, _, err = run_cli("train", "mine.py", "--seed", seed, "--quiet", cwd=tmp_path)
        assert rc == 0, err
        assert asked(tmp_path / f"runs/mine/{number}")["recipe"]["seed"] == int(seed)
    first, second, third = (weights(tmp_path / f"runs/mine/{n}") for n in (1, 2, 3))
    assert same(first, second)
    assert not same(first, third)


def test_same_as_fit(run_cli, run_program, tmp_path):
    """The command trains the same bits as ``lw.fit`` called by hand with the recipe's job."""
    write(tmp_path)
    (tmp_path / "by_hand.py").write_text(
        "import loopwright as lw, mine\n"
        "lw.seed(7)\n"
        "job = mine.mine(lr=0.5)\n"
        "lw.fit(job.model, job.optimizer, None, job.train_loader, job.valid_loader, epochs=2,\n"
        "       compute_loss=job.compute_loss, metrics=job.metrics, out='by_hand')\n"
    )
    assert run_program(["by_hand.py"], cwd=tmp_path).rc == 0
    words = ["train", "mine.py", "--lr", "0.5", "--seed", "7", "--out", "by_command"]
    assert run_cli(*words, cwd=tmp_path).rc == 0
    assert same(weights(tmp_path / "by_hand"), weights(tmp_path / "by_command"))


def test_quiet(run_cli, tmp_path):
    """--quiet prints nothing at all."""
    write(tmp_path)
    assert run_cli("train", "mine.py", "--quiet", cwd=tmp_path) == (0, "", "")


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, 130, "error: interrupted (Ctrl-C)\nhint: the same command again"),
        pytest.param(
            signal.SIGTERM, 143,
            "error: ended by SIGTERM (signal 15)\nhint: the same command again",
            marks=pytest.mark.long,
        ),
    ],
)  # fmt: skip
def test_interrupted_and_again(start_program, run_cli, tmp_path, number, code, words):
    """A signal ends with its code after saving; the same command goes on, to the same bits."""
    write(tmp_path)
    command = ["train", "mine.py", "--wait", "0.05", "--epochs", "3"]
    program = start_program(["-m", "loopwright", *command], cwd=tmp_path)
    metrics = tmp_path / "runs/mine/1/metrics.jsonl"
    end = time.monotonic() + 60
    while "epoch" not in (metrics.read_text() if metrics.exists() else ""):
        assert program.running(), program.err
        assert time.monotonic() < end, program.err
        time.sleep(0.01)
    program.send_signal(number)
    rc, _, err = program.wait()
    assert rc == code, err
    assert words in err.splitlines()[-2] + "\n" + err.splitlines()[-1]
    again = run_cli(*command, cwd=tmp_path)
    assert again.rc == 0, again.err
    assert "resumed at turn" in again.err
    assert run_cli(*command, "--resume", "never", cwd=tmp_path).rc == 0
    assert same(weights(tmp_path / "runs/mine/1"), weights(tmp_path / "runs/mine/2"))


def test_another_run_in_the_folder(run_cli, tmp_path):
    """Other settings in a run's folder are refused with a table; --allow-change goes on with them."""
    write(tmp_path)
    command = ["train", "mine.py", "--out", "here", "--steps", "4"]
    assert run_cli(*command, cwd=tmp_path).rc == 0
    rc, _, err = run_cli(*command, "--lr", "0.2", cwd=tmp_path)
    assert rc == 3
    assert "lr" in err
    assert "0.2" in err
    assert err.splitlines()[-2].startswith("error: here holds a run with other settings")
    more = [*command[:-1], "6"]
    rc, _, err = run_cli(*more, "--lr", "0.2", "--allow-change", "lr", cwd=tmp_path)
    assert rc == 0, err


def test_error_in_the_users_loss(run_cli, tmp_path):
    """An exception of the recipe's code is told at its line, with type and step, exit code 1."""
    write(tmp_path, body="assert outputs.shape == (8, 3), tuple(outputs.shape)")
    rc, _, err = run_cli("train", "mine.py", cwd=tmp_path)
    assert rc == 1
    lines = err.splitlines()
    assert lines[-1].startswith("error: AssertionError: (8, 2) (mine.py:")
    assert "Traceback (most recent call last):" in lines
    assert "loopwright/train" not in err


@pytest.mark.parametrize("workers", ["0", "2"])
def test_error_in_one_sample(run_cli, tmp_path, workers):
    """An exception in the data set is told at its line, in this process or a worker's."""
    write(tmp_path, sample="assert index != 13, 'a bad sample'")
    rc, _, err = run_cli("train", "mine.py", "--workers", workers, cwd=tmp_path, timeout=60)
    assert rc == 1
    assert err.splitlines()[-1].startswith("error: AssertionError: a bad sample (mine.py:13)")
    assert "site-packages" not in err


def test_nan(run_cli, tmp_path):
    """A loss that is not finite ends with exit code 1 and one error."""
    write(tmp_path, body="outputs = outputs * float('nan')")
    rc, _, err = run_cli("train", "mine.py", cwd=tmp_path)
    assert rc == 1
    assert err.splitlines()[-1].startswith(("error:", "hint:"))
    assert "nan" in err


def test_dry_run(run_cli, tmp_path):
    """--dry-run goes through every phase and leaves the folder as it was."""
    write(tmp_path)
    rc, out, err = run_cli("train", "mine.py", "--dry-run", cwd=tmp_path)
    assert rc == 0, err
    for phase in ("train", "evaluate", "checkpoint", "report", "nothing was kept"):
        assert phase in out
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_dry_run_finds_the_mistake(run_cli, tmp_path):
    """A mistake that would come after an hour comes in the dry run."""
    write(tmp_path, body="assert model.training, 'in validation'")
    rc, _, err = run_cli("train", "mine.py", "--dry-run", cwd=tmp_path)
    assert rc == 1
    assert "in validation" in err


def test_overfit_one_batch(run_cli, tmp_path):
    """--overfit-one-batch learns one batch by heart, and says so when it cannot; nothing is kept."""
    words = ["train", "digits", "--overfit-one-batch", "--steps", "60", "--quiet"]
    rc, out, err = run_cli(*words, cwd=tmp_path)
    assert rc == 0, err
    assert "the model can learn" in out
    rc, _, err = run_cli(*words, "--lr", "1e-9", cwd=tmp_path)
    assert rc == 1
    assert "does not learn it by heart" in err
    assert list(tmp_path.iterdir()) == []


def test_init(run_cli, trained, tmp_path):
    """--init starts from a run's weights; what does not fit is told by name."""
    words = ["train", "digits", "--init", trained, "--steps", "1", "--lr", "1e-12"]
    rc, _, err = run_cli(*words, "--hidden", "64", "--out", "same", cwd=tmp_path)
    assert rc == 0, err
    assert "6 tensors fit" in err
    started = weights(tmp_path / "same")
    for name, value in weights(trained).items():
        torch.testing.assert_close(started[name], value, atol=1e-6, rtol=0)
    rc, _, err = run_cli(*words, "--hidden", "32", "--out", "other", cwd=tmp_path)
    assert rc == 0, err
    assert "another shape" in err
    assert "weight: file (" in err


def test_help_of_a_recipe(run_cli, tmp_path):
    """--help shows a file's own flags with their help, and the loop's."""
    write(tmp_path)
    rc, out, _ = run_cli("train", "mine.py", "--help", cwd=tmp_path)
    assert rc == 0
    for text in ("Recipe mine", "--lr", "Step size.", "--epochs", "--dry-run", "Learn nothing"):
        assert text in out


def test_find_batch_size(run_cli, tmp_path):
    """--find-batch-size tries up to all samples, and keeps nothing."""
    write(tmp_path)
    rc, out, err = run_cli("train", "mine.py", "--find-batch-size", cwd=tmp_path)
    assert rc == 0, err
    assert "has 64 samples; there are no more samples" in out
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_find_batch_size_at_the_limit(run_cli, tmp_path):
    """A batch that runs out of memory is too large; the largest that did not is named."""
    write(tmp_path, body="if len(inputs) > 37: raise MemoryError")
    rc, out, err = run_cli("train", "mine.py", "--find-batch-size", cwd=tmp_path)
    assert rc == 0, err
    assert "has 37 samples\n" in out


def test_lr_range_test(run_cli, tmp_path):
    """--lr-range-test draws the curve and names the flag to write; it keeps nothing."""
    rc, out, err = run_cli("train", "digits", "--lr-range-test", cwd=tmp_path)
    assert rc == 0, err
    assert "suggestion: lr=" in out
    assert "--lr " in out.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_profile_and_log(run_cli, tmp_path):
    """--profile and --log leave their files in the run folder."""
    pytest.importorskip("tensorboard")
    write(tmp_path)
    words = ["train", "mine.py", "--profile", "2:4", "--log", "tensorboard", "--steps", "6"]
    rc, _, err = run_cli(*words, cwd=tmp_path)
    assert rc == 0, err
    run = tmp_path / "runs/mine/1"
    assert (run / "trace-2-4.json").exists()
    assert list((run / "tensorboard").iterdir())


def test_folder_in_use(start_program, run_cli, tmp_path):
    """A second command on a folder that is being trained in is refused, and the first goes on."""
    write(tmp_path)
    command = ["train", "mine.py", "--out", "here", "--epochs", "1000000"]
    first = start_program(["-m", "loopwright", *command], cwd=tmp_path)
    lines = tmp_path / "here/metrics.jsonl"

    def grows(size):
        end = time.monotonic() + 60
        while not lines.exists() or lines.stat().st_size <= size:
            assert first.running(), first.err
            assert time.monotonic() < end, first.err
            time.sleep(0.01)

    grows(0)
    second = run_cli(*command, cwd=tmp_path)
    assert second.rc == 3, second.err
    assert str(first.pid) in second.err
    grows(lines.stat().st_size)
    first.send_signal(signal.SIGTERM)
    assert first.wait().rc == 143, first.err


def test_no_room(run_program, tmp_path):
    """Files that may not grow (as on a full disk) end with exit code 4 and one error."""
    write(tmp_path)
    program = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))\n"
        "from loopwright.cli.main import main\n"
        "sys.exit(main(['train', 'mine.py', '--quiet']))\n"
    )
    rc, _, err = run_program(["-c", program], cwd=tmp_path, timeout=60)
    lines = err.splitlines()
    if lines[-1].startswith("hint: "):
        lines.pop()
    assert lines[-1].startswith("error: "), err
    assert rc == 4, err
    assert "Traceback" not in err
