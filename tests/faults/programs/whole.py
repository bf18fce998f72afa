"""A whole training program whose settings are drawn: ``python whole.py SETTINGS.json``.

It trains in ``runs/`` of the working folder, as a person's program would, and writes down everything
that must be the same however often it was killed. See ``drawn.py`` for the settings.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import marks
import numpy as np
import result
import torch
from data import make_loader, valid_loader
from parts import Diary, make_run, models
from torch import nn

import loopwright as lw

SETTINGS: dict[str, Any] = {}


def loss_of(module: nn.Module, batch: Any) -> torch.Tensor:
    """The mean squared error of a batch, with the body's own draws added to its inputs."""
    inputs, targets = batch
    if SETTINGS["body_draws"]:
        inputs = inputs + 0.05 * (random.random() + np.random.rand() + torch.rand(()))  # noqa: NPY002
    return nn.functional.mse_loss(module(inputs).float(), targets)


def step_once(run: lw.Run, step: Any) -> None:
    """One turn's backward and update, in the way that the optimizers ask for."""
    kind = type(next(iter(run.optimizers.values()))).__name__
    if isinstance(run.model, dict):
        for name in ("one", "two"):
            with step.only(name):
                step.backward(loss_of(run.model[name], step.batch))
                step.update()
    elif kind == "LBFGS":
        step.minimize(lambda: loss_of(run.model, step.batch))
    else:
        step.backward(loss_of(run.model, step.batch))
        step.update()


def validate(run: lw.Run, step: Any) -> None:
    """Evaluate, log, and keep the best weights."""
    marks.at("validation")
    mean = lw.Mean()
    for inputs, targets in run.evaluate(valid_loader(SETTINGS["validation"] == "draws")):
        made = run.model(inputs) if not isinstance(run.model, dict) else run.model["one"](inputs)
        mean.update(nn.functional.mse_loss(made.float(), targets, reduction="none"))
    step.log(valid_loss=mean)
    run.keep_best("valid_loss", mode="min")
    marks.at("body")


def train(run: lw.Run, loader: Any, diary: Diary, name: str | None = None, **limits: int) -> None:
    """One loop, in which the program says where it is."""
    for step in run.loop(loader, name=name, **(limits or {"epochs": 3})):
        marks.body(step.index)
        step_once(run, step)
        diary.write(float(next(iter(run.models.values()))[-1].bias.detach().sum()))
        run.keep("turn", step.index)
        if SETTINGS["validation"] != "none" and (step.ends_epoch or step.index % 5 == 4):
            validate(run, step)
        boundary = "epoch boundary" if step.ends_epoch else "fetch"
        marks.at("loop end" if step.ends_run else boundary)


def begin(folder: str, given: Any, **changes: Any) -> tuple[lw.Run, Diary]:
    """A run with everything of the user's in it."""
    run = make_run(folder, SETTINGS, given, **changes)
    diary = Diary()
    run.track("diary", diary)
    run.keep("first", random.random())
    return run, diary


def conclude(name: str, run: lw.Run, diary: Diary, loader: Any) -> None:
    """Note everything, close the run, and look at its best weights."""
    result.note_run(name, run, diary)
    result.note_generators(name, loader)
    if SETTINGS["validation"] != "none":
        result.note(f"{name}/has best", run.load_best())
        result.note(f"{name}/best weights", run.weights(averaged=False))
    run.close()


def one_loop() -> None:
    """A program with one loop."""
    loader = make_loader(SETTINGS)
    run, diary = begin("one", models(SETTINGS))
    train(run, loader, diary, **SETTINGS["limits"])
    conclude("one", run, diary, loader)


def two_loops() -> None:
    """A program with a warm-up and a main part in one run, and draws in between."""
    loader = make_loader(SETTINGS)
    run, diary = begin("two", models(SETTINGS))
    train(run, loader, diary, "warm up", steps=12)
    marks.at("between loops")
    result.note("between", torch.rand(2))
    train(run, loader, diary, "main", **SETTINGS["limits"])
    conclude("two", run, diary, loader)


def fine_tuning() -> None:
    """A program that trains, replaces the head, and trains on with a new optimizer in a second run."""
    loader = make_loader(SETTINGS)
    given = models(SETTINGS)
    run, diary = begin("pretrain", given)
    train(run, loader, diary, **SETTINGS["limits"])
    result.note_run("pretrain", run, diary)
    run.close()
    marks.at("between loops")
    for one in given.values() if isinstance(given, dict) else [given]:
        one[-1] = nn.Linear(8, 1)
        for parameter in one[0].parameters():
            parameter.requires_grad_(requires_grad=False)
    other = {"sgd": "adamw", "adamw": "sgd"}.get(SETTINGS["optimizer"], SETTINGS["optimizer"])
    run, diary = begin("finetune", given, optimizer=other)
    train(run, loader, diary, epochs=2)
    conclude("finetune", run, diary, loader)


def folds() -> None:
    """Cross-validation: five runs, each from the weights that the generators give then."""
    for fold in range(5):
        loader = make_loader(SETTINGS)
        run, diary = begin(f"fold-{fold}", models(SETTINGS))
        with run:
            train(run, loader, diary, epochs=1)
            result.note_run(f"fold-{fold}", run, diary)
        if fold < 4:
            marks.at("between loops")
    result.note_generators("folds", loader)


SHAPES: dict[str, Callable[[], None]] = {
    "one loop": one_loop,
    "two loops": two_loops,
    "fine-tuning": fine_tuning,
    "five folds": folds,
}


if __name__ == "__main__":
    SETTINGS.update(json.loads(Path(sys.argv[1]).read_text()))
    marks.begin()
    lw.seed(SETTINGS["seed"])
    SHAPES[SETTINGS["shape"]]()
    marks.at("done")
    result.note("next draws", [torch.rand(2), random.random(), float(np.random.rand())])  # noqa: NPY002
    result.save()
