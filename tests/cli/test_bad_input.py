"""Bad input, as a table: what is typed, the exit code, and the last words on stderr.

Every row starts in an empty folder with the files that it names, and must leave it as it was (R4), end
with ``error: what (where)`` and at most a hint (R1), and show no line of the library (R1).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest


class Row(NamedTuple):
    """One mistake."""

    words: str
    code: int
    error: str
    hint: str = ""
    files: Mapping[str, str | bytes] = MappingProxyType({})


RECIPE = """\
import torch, loopwright as lw

@lw.recipe
def mine({parameters}) -> lw.Job:
    {body}
    model = torch.nn.Linear(2, 2)
    data = [(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))]
    return lw.Job(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=torch.nn.CrossEntropyLoss(),
        train_loader=data,
        epochs=1,
    )
"""


def recipe(parameters: str = "", body: str = "pass") -> str:
    """The text of a recipe file."""
    return RECIPE.format(parameters=parameters, body=body)


PROGRAM = "import torch\nfor step in range(3):\n    open('trained', 'w')\n"

VERBS = [
    Row("trian digits", 2, "there is no verb 'trian' (command line)", "did you mean 'train'?"),
    Row("digits", 2, "there is no verb 'digits' (command line)", "did you mean train digits?"),
    Row("--lr 3", 2, "there is no verb '--lr' (command line)"),
    Row("", 0, ""),
    Row("train", 2, "what shall be trained? (command line)", "loopwright train digits"),
    Row("train --epochs 3", 2, "what shall be trained? (command line)"),
    Row("evaluate", 2, "RUN is missing (command line)"),
    Row("evaluate a b", 2, "unexpected argument 'b' (command line)"),
    Row("evaluate a --splt test", 2, "unknown flag --splt", "did you mean --split?"),
    Row("evaluate a --split all", 2, "--split takes valid or test, not 'all' (command line)"),
    Row("export a --format onxx", 2, "--format takes safetensors, torch-export or onnx"),
    Row("predict a b --batch-size 0", 2, "--batch-size must be at least 1, not 0"),
    Row("predict a b --batch-size x", 2, "--batch-size takes a whole number, not 'x'"),
    Row("predict a b --to none/out.csv", 2, "there is no folder none"),
    Row("export a --model m:f --format onnx --shape 3,x", 2, "--shape takes whole numbers"),
]
RECIPES = [
    Row("train digts", 2, "there is no recipe 'digts' (command line)", "did you mean 'digits'?"),
    Row("train fashion_mnits", 2, "there is no recipe", "did you mean 'fashion-mnist'?"),
    Row("train zebra", 2, "there is no recipe 'zebra'", "there are: digits"),
    Row("train none.py", 2, "there is no file none.py"),
    Row("train mien.py", 2, "there is no file mien.py", "'mine.py'?", {"mine.py": recipe()}),
    Row("train m.py", 2, "the file is empty (m.py)", "loopwright new", {"m.py": ""}),
    Row("train m.py", 2, "the file is empty (m.py)", "", {"m.py": "# nothing\n"}),
    Row("train m.py", 2, "not valid Python", "", {"m.py": "def (:\n"}),
    Row("train m.py", 2, "(m.py", "", {"m.py": b"\x00\x01\x02\xff\xfe"}),
    Row("train m.py", 2, "this is a program: run it with python", "", {"m.py": PROGRAM}),
    Row("train m.py", 2, "2 recipes", "", {"m.py": recipe() + recipe().replace("mine", "b")}),
    Row("train m.py", 1, "NameError: name 'nope' is not defined (m.py:1)", "",
        {"m.py": "nope\n" + recipe()}),
    Row("train m.py", 1, "ModuleNotFoundError: No module named 'nope' (m.py:1)", "",
        {"m.py": "import nope\n" + recipe()}),
    Row("train m.py", 1, "ValueError: from the recipe (m.py:5)", "",
        {"m.py": recipe(body="raise ValueError('from the recipe')")}),
    Row("train m.py", 1, "sys.exit(0) was called (m.py:5)", "",
        {"m.py": recipe(body="import sys; sys.exit(0)")}),
    Row("train m.py", 2, "recipe mine returned dict, not a Job", "",
        {"m.py": recipe(body="return {}")}),
    Row("train m.py", 2, "parameter 'epochs' has the name of a setting that the loop owns",
        "rename it", {"m.py": recipe("epochs: int = 3")}),
    Row("train m.py", 2, "parameter 'dry_run' has the name of a setting", "rename it",
        {"m.py": recipe("dry_run: bool = False")}),
    Row("train m.py", 2, "parameter 'lr' has no type", "", {"m.py": recipe("lr")}),
    Row("train m.py", 2, "has type object", "",
        {"m.py": recipe("device: object = None").replace("device", "thing")}),
    Row("train folder", 2, "folder is a folder", "", {"folder/x": ""}),
    Row("train old", 2, "old is a run folder, not a recipe", "loopwright report old",
        {"old/run.json": "{}"}),
]  # fmt: skip
FLAGS = [
    Row("train digits --lrr 1", 2, "unknown flag --lrr (command line)", "did you mean --lr?"),
    Row("train digits --epoch 1", 2, "unknown flag --epoch", "did you mean --epochs?"),
    Row("train digits -x", 2, "unknown flag -x", "train digits --help lists the flags"),
    Row("train digits --zebra", 2, "unknown flag --zebra", "train digits --help lists the flags"),
    Row("train digits 5", 2, "unexpected argument '5' (command line)"),
    Row("train digits --lr", 2, "--lr needs a value (command line)"),
    Row("train digits --lr 1 --lr 2", 2, "--lr is given twice (command line)"),
    Row("train m.py", 2, "--data is missing (command line)", "", {"m.py": recipe("data: str")}),
    Row("train m.py --no-big 3", 2, "unexpected argument '3'", "",
        {"m.py": recipe("big: bool = True")}),
]  # fmt: skip
NUMBERS = [
    Row("train digits --lr fast", 2, "--lr takes a number, not 'fast' (command line)"),
    Row("train digits --lr nan", 2, "--lr takes a finite number, not 'nan' (command line)"),
    Row("train digits --lr inf", 2, "--lr takes a finite number, not 'inf' (command line)"),
    Row("train digits --lr -1", 2, "--lr must be above 0, not -1.0 (command line)"),
    Row("train digits --lr 0", 2, "--lr must be above 0, not 0.0 (command line)"),
    Row("train digits --batch-size 0", 2, "--batch-size must be at least 1, not 0"),
    Row("train digits --batch-size 2.5", 2, "--batch-size takes a whole number, not '2.5'"),
    Row("train digits --dropout 1", 2, "--dropout must be at least 0 and below 1, not 1.0"),
    Row("train digits --seed -1", 2, "--seed must be at least 0"),
    Row("train digits --seed 1e30", 2, "seed"),
    Row("train digits --epochs 0", 2, "--epochs must be at least 1, not 0 (command line)"),
    Row("train digits --epochs two", 2, "--epochs takes a whole number, not 'two'"),
    Row("train digits --steps -5", 2, "--steps must be at least 1, not -5 (command line)"),
    Row("train digits --minutes 0", 2, "--minutes must be above 0, not 0.0 (command line)"),
    Row("train digits --minutes inf", 2, "--minutes takes a finite number, not 'inf'"),
    Row("train digits --accumulate 0", 2, "--accumulate must be at least 1, not 0"),
    Row("train digits --ema 1", 2, "--ema must be below 1, not 1.0 (command line)"),
    Row("train digits --clip nan", 2, "--clip takes a number above 0, not 'nan'"),
    Row("train digits --patience 0", 2, "--patience must be at least 1, not 0"),
    Row("train digits --profile 20:10", 2, "--profile takes two step numbers, not '20:10'"),
    Row("train digits --checkpoint-every often", 2, "--checkpoint-every takes an interval"),
]
DEVICES = [
    Row("train digits --device cuda:99", 2, "cuda:99"),
    Row("train digits --device gpu", 2, "gpu"),
    Row("train digits --precision fp64", 2, "--precision takes fp32, bf16 or fp16, not 'fp64'"),
    Row("train digits --log tensorbord", 2, "--log takes tensorboard, wandb, mlflow or trackio"),
    Row("train digits --resume yes", 2, "--resume takes auto, never or always, not 'yes'"),
]
SETTINGS = [
    Row("train none.toml", 2, "no such file: none.toml (command line)"),
    Row("train s.toml", 2, "s.toml sets nothing (s.toml)", "", {"s.toml": ""}),
    Row("train s.toml", 2, "not valid TOML", "", {"s.toml": "recipe = = 3"}),
    Row("train s.toml", 2, "s.toml is not a text file", "", {"s.toml": b"\xff\xfe\x00"}),
    Row("train s.toml", 2, "s.toml names no recipe", "", {"s.toml": "lr = 1"}),
    Row("train s.toml", 2, "there is no recipe 'digit' (s.toml)", "did you mean 'digits'?",
        {"s.toml": "recipe = 'digit'"}),
    Row("train s.toml", 2, "unknown setting 'lrr' (s.toml)", "did you mean lr?",
        {"s.toml": "recipe = 'digits'\nlrr = 1"}),
    Row("train s.toml", 2, "--lr takes a number, not 'fast' (s.toml)", "",
        {"s.toml": "recipe = 'digits'\nlr = 'fast'"}),
    Row("train s.toml", 2, "--lr takes a finite number, not 'nan' (s.toml)", "",
        {"s.toml": "recipe = 'digits'\nlr = nan"}),
    Row("train s.toml", 2, "--epochs takes a whole number, not '2.5' (s.toml)", "",
        {"s.toml": "recipe = 'digits'\nepochs = 2.5"}),
    Row("train s.toml", 2, "--epochs takes a whole number, not 'true' (s.toml)", "",
        {"s.toml": "recipe = 'digits'\nepochs = true"}),
    Row("train s.yaml", 2, "not valid YAML", "", {"s.yaml": "recipe: ["}),
    Row("train d.toml", 2, "d.toml is a folder (command line)", "", {"d.toml/x": ""}),
]  # fmt: skip
FOLDERS = [
    Row("train digits --out there", 2, "there is a file, not a folder", "", {"there": "mine"}),
    Row("train digits --out there/below", 2, "is a file, not a folder", "", {"there": "mine"}),
    Row("train digits --out full", 2, "holds other files and no run", "", {"full/mine": "x"}),
    Row("train digits --out /proc/nothing", 4, "/proc"),
    Row("train digits --resume always --out none", 3, "no run to resume"),
    Row("train digits --init none.safetensors", 3, "none.safetensors"),
    Row(
        "train digits --init w.safetensors", 3, "w.safetensors", "", {"w.safetensors": b"\x80\x02"}
    ),
    Row("evaluate none", 2, "none is not a folder"),
    Row("evaluate there", 2, "there is not a folder", "", {"there": "mine"}),
    Row("evaluate full", 3, "not a run folder", "", {"full/mine": "x"}),
    Row("report full", 3, "not a run folder", "", {"full/run.json": "{"}),
    Row("report full", 3, "newer version", "", {"full/run.json": '{"format": 99}'}),
    Row("runs none", 2, "no such folder: none (command line)"),
    Row("runs full", 2, "there is no run in full", "", {"full/mine": "x"}),
    Row("new there.py", 2, "there.py exists already (command line)", "", {"there.py": "mine"}),
    Row("new there.txt", 2, "a recipe is a Python file", "loopwright new there.py"),
    Row("new none/mine.py", 2, "there is no folder none (command line)"),
    Row("new file/mine.py", 4, "cannot write file/mine.py", "", {"file": "mine"}),
    Row("new /proc/mine.py", 2, "there is no folder /proc"),
]
TABLE = [*VERBS, *RECIPES, *FLAGS, *NUMBERS, *DEVICES, *SETTINGS, *FOLDERS]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and what is in it; an empty folder is its name with a slash."""
    seen = {}
    for place, _, files in os.walk(folder):
        below = os.path.relpath(place, folder)
        seen[f"{below}/"] = b""
        seen |= {f"{below}/{name}": (Path(place) / name).read_bytes() for name in files}
    return seen


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.words or 'nothing'}: {row.error}")
def test_bad_input(row, run_cli, tmp_path):
    """Each row ends with its code and its words, harms nothing and hides the library."""
    for name, content in row.files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    before = contents(tmp_path)
    rc, out, err = run_cli(*row.words.split(), cwd=tmp_path, timeout=60)
    assert rc == row.code, err
    assert contents(tmp_path) == before
    if row.code == 0:
        assert "Usage" in out
        assert err == ""
        return
    lines = err.splitlines()
    hint = lines.pop() if lines[-1].startswith("hint: ") else ""
    assert lines[-1].startswith("error: "), err
    assert row.error in lines[-1]
    assert row.hint in hint
    assert "loopwright/cli" not in err
    assert "site-packages" not in err
