"""The check of the first steps of ``loopwright train``: told at the recipe's line, no bit changed."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

RECIPE = """\
import json
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import loopwright as lw

FUNCTIONS = [nn.Module.__call__, torch.Tensor.backward, torch.optim.Optimizer.__init__]
CODES = [one.__code__ for one in FUNCTIONS]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(8, 16), nn.Linear(16, 16)]
        self.rest = nn.Sequential(nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, 3))

    def forward(self, x):
        for one in self.layers:
            x = torch.relu(one(x))
        return self.rest(x).softmax(1)


def look(run):
    seen = []

    @run.on("epoch_end")
    def note(event):
        from loopwright.observe.watch import Observer

        ours = sum(one.__code__ is not code for one, code in zip(FUNCTIONS, CODES))
        seen.append([event.turn, Observer.active is not None, ours, "item" in vars(torch.Tensor)])
        with open("seen.json", "w") as file:
            json.dump(seen, file)


@lw.recipe
def mine(lr: float = 0.1) -> lw.Job:
    \"\"\"Two mistakes.\"\"\"
    x = torch.randn(640, 8)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    model = Net()
    return lw.Job(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr),
        criterion=nn.CrossEntropyLoss(),
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
        valid_loader=DataLoader(TensorDataset(x[:64], y[:64]), batch_size=32),
        epochs=7,
        callbacks=[look],
    )
"""
HEALTHY = RECIPE.replace(
    "[nn.Linear(8, 16), nn.Linear(16, 16)]", "nn.ModuleList([nn.Linear(8, 16), nn.Linear(16, 16)])"
)
HEALTHY = HEALTHY.replace(".softmax(1)", "")


@pytest.fixture
def train(run_cli, tmp_path):
    """``train(*flags, recipe=...)``: the run's folder, and what was printed."""
    folders = []

    def run(*flags, recipe=RECIPE, rc=0):
        (tmp_path / "mine.py").write_text(recipe)
        folders.append(tmp_path / f"run{len(folders)}")
        done = run_cli("train", "mine.py", "--out", folders[-1], *flags, cwd=tmp_path)
        assert done.rc == rc, done.err
        return folders[-1], done

    return run


def notes(folder):
    """The notes of a run's report."""
    return json.loads((folder / "outcome.json").read_text())["notes"]


def line(text):
    """The number of the recipe's line that has the text."""
    return RECIPE[: RECIPE.index(text)].count("\n") + 1


def losses(folder):
    """Every loss in a run's history; where its lines begin and end depends on the clock."""
    rows = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [loss for row in rows for loss in row.get("loss", ())]
    return steps + [row["values"] for row in rows if row["kind"] == "epoch"]


def same(first, second):
    """The weights and every loss of two runs are equal to the bit."""
    ours, theirs = (load_file(folder / "final.safetensors") for folder in (first, second))
    assert ours.keys() == theirs.keys()
    assert losses(first) == losses(second)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_findings_are_told_and_change_nothing(train):
    """Each mistake is shown at its line and stands in the report; every bit is that of --no-check."""
    checked, done = train()
    plain, without = train("--no-check")
    assert same(checked, plain)
    layers, softmax = notes(checked)
    assert layers.startswith(
        f"check: error[unregistered-modules] mine.py:{line('self.layers =')}: "
    )
    assert softmax.startswith(
        f"check: error[double-softmax] mine.py:{line('nn.CrossEntropyLoss()')}: "
    )
    assert softmax.endswith("Fix: give it the logits: leave the softmax out of the model")
    assert "error[unregistered-modules]: " in done.err
    assert "14 |         self.layers = [nn.Linear(8, 16), nn.Linear(16, 16)]" in done.err
    assert notes(plain) == []
    assert "error[" not in without.err


def test_a_failing_run_is_told_what_was_found(train):
    """Findings stand above the error of a run that failed in its first steps."""
    recipe = RECIPE.replace(
        "return self.rest(x)",
        "self.n = getattr(self, 'n', 0) + 1; assert self.n < 50; return self.rest(x)",
    )
    _, done = train(recipe=recipe, rc=1)
    assert done.err.index("error[double-softmax]") < done.err.index("error: AssertionError")


def test_out_after_the_first_steps(train, tmp_path):
    """Hooks are in during the first 100 steps and gone after them, to the last attribute."""
    train()
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert [row[:2] for row in seen] == [[20 * n, n < 5] for n in range(1, 8)]
    assert seen[0][2:] == [3, True]
    assert seen[-1][2:] == [0, False]


def test_a_short_quiet_run_and_a_healthy_one(train):
    """A run of fewer steps is told when it ends, --quiet in its report alone; a healthy one has no note."""
    folder, done = train("--quiet", "--epochs", "2")
    assert (done.out, done.err) == ("", "")
    assert [one.split()[1] for one in notes(folder)] == [
        "error[unregistered-modules]",
        "error[double-softmax]",
    ]
    folder, _ = train("--quiet", recipe=HEALTHY)
    assert notes(folder) == []


def test_silenced(train, tmp_path):
    """A comment on the line and the settings of the project are heard."""
    recipe = RECIPE.replace("nn.Linear(16, 16)]", "nn.Linear(16, 16)]  # loopwright: ignore")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.loopwright.check]\nignore = ["double-softmax"]\n'
    )
    folder, _ = train("--epochs", "2", recipe=recipe)
    assert notes(folder) == []


@pytest.mark.long
def test_captured_steps(train, tmp_path):
    """Steps that are replayed without Python are counted by the run; the hooks go out all the same."""
    checked, _ = train("--capture", "exact")
    assert json.loads((tmp_path / "seen.json").read_text())[-1][1] is False
    plain, _ = train("--capture", "exact", "--no-check")
    assert same(checked, plain)


def test_its_own_failure(run_program, tmp_path):
    """A check that fails takes itself out and says so; the training goes on."""
    (tmp_path / "mine.py").write_text(RECIPE)
    code = (
        "import sys; from loopwright.checker.accounts.gradients import Gradients\n"
        "def broken(self, event): raise ZeroDivisionError('ours')\n"
        "Gradients.after_backward = broken\n"
        "from loopwright.cli.main import main\n"
        "sys.exit(main(['train', 'mine.py', '--out', 'run']))"
    )
    done = run_program(["-c", code], cwd=tmp_path)
    assert done.rc == 0
    assert "the observer failed and has switched itself off; the program goes on" in done.err
    assert any("ZeroDivisionError: ours" in note for note in notes(tmp_path / "run"))


@pytest.mark.long
def test_under_check(run_cli, tmp_path):
    """``loopwright check -m loopwright train`` checks once."""
    (tmp_path / "mine.py").write_text(RECIPE)
    done = run_cli(
        "check", "-m", "loopwright", "train", "mine.py", "--out", "run", "--quiet", cwd=tmp_path
    )
    assert done.rc == 1
    assert done.err.count("error[double-softmax]") == 1
    assert notes(tmp_path / "run") == []


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["digits", "char-lm", "images"])
def test_our_own_recipes(run_cli, tmp_path, recipe):
    """Nothing is said of the recipes that come with us, here and under ``loopwright check``."""
    if recipe == "char-lm":
        (tmp_path / "text.txt").write_text("To be, or not to be, that is the question:\n" * 60)
        words = ["--data", "text.txt", "--context", "16", "--width", "16", "--heads", "2"]
    elif recipe == "images":
        image = pytest.importorskip("PIL.Image")
        for number, colour in enumerate(["red", "blue"] * 24):
            (tmp_path / "data" / colour).mkdir(parents=True, exist_ok=True)
            image.new("RGB", (20, 20), colour).save(tmp_path / "data" / colour / f"{number}.png")
        words = ["--data", "data", "--size", "16", "--width", "4"]
    else:
        words = ["--hidden", "16"]
    words = ["train", recipe, *words, "--epochs", "2", "--quiet", "--out"]
    done = run_cli(*words, "run", cwd=tmp_path)
    assert done.rc == 0, done.err
    assert [one for one in notes(tmp_path / "run") if one.startswith("check: ")] == []
    told = tmp_path / "found.json"
    done = run_cli("check", f"--json={told}", "-m", "loopwright", *words, "again", cwd=tmp_path)
    record = json.loads(told.read_text())
    assert [one for one in record["findings"] if one["severity"] != "hint"] == []
    assert record["observed"]["steps"] > 0
    assert done.rc == 0


def test_help_needs_no_checker(run_program, tmp_path):
    """The flags are listed without importing a rule."""
    code = (
        "import sys; [sys.modules.pop(name) for name in list(sys.modules) if name.startswith('loopwright')]\n"
        "from loopwright.cli.main import main; main(['train', 'digits', '--help'])\n"
        "ours = ('loopwright.checker', 'loopwright.observe')\n"
        "print(sorted(name for name in sys.modules if name.startswith(ours)))"
    )
    done = run_program(["-c", code], cwd=tmp_path)
    assert "--no-check" in done.out
    assert done.out.splitlines()[-1] == "[]"
