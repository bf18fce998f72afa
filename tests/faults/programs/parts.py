"""Models, optimizers, schedules and runs of a drawn program."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from torch import nn

import loopwright as lw
from loopwright.train.folder import history

history.SELDOM = 0.0  # each epoch's lines are an operation of their own, however fast the machine


def model() -> nn.Module:
    """A regression with everything that draws or remembers: dropout and BatchNorm."""
    return nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 1)
    )


def models(settings: dict[str, Any]) -> Any:
    """One model, or two where two optimizers shall step."""
    return {"one": model(), "two": model()} if settings["optimizer"] == "two" else model()


def optimizers(kind: str, given: Any) -> Any:
    """The optimizer of these settings, or two by the names of their models."""
    if kind == "two":
        return {
            "one": torch.optim.AdamW(given["one"].parameters(), lr=0.01),
            "two": torch.optim.SGD(given["two"].parameters(), lr=0.02, momentum=0.9),
        }
    if kind == "lbfgs":
        return torch.optim.LBFGS(given.parameters(), lr=0.05, max_iter=3, history_size=4)
    if kind == "adamw":
        return torch.optim.AdamW(given.parameters(), lr=0.01)
    return torch.optim.SGD(given.parameters(), lr=0.02, momentum=0.9)


def schedule(settings: dict[str, Any], made: Any) -> Any:
    """The scheduler of these settings for one optimizer, or for each of two."""
    if isinstance(made, dict):
        all_of_them = {name: schedule(settings, one) for name, one in made.items()}
        return None if settings["schedule"] == "none" else all_of_them
    kind = settings["schedule"]
    if kind == "update":
        return lw.per_update(
            torch.optim.lr_scheduler.CyclicLR(made, 0.001, 0.02, 5, 7, cycle_momentum=False)
        )
    if kind == "epoch":
        return lw.per_epoch(torch.optim.lr_scheduler.ExponentialLR(made, 0.7))
    if kind == "metric":
        look_at = "train_loss" if settings["validation"] == "none" else "valid_loss"
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(made, patience=0, threshold=0.2)
        return lw.on_metric(plateau, look_at)
    return None


POLICIES = {
    "steps": lw.Checkpoint(every_steps=3),
    "every step": lw.Checkpoint(every_steps=1, every_epochs=None, keep=3),
    "epochs": lw.Checkpoint(most=1.0),
    "minutes": lw.Checkpoint(every_minutes=0.0005, every_epochs=None),
    "ends": lw.Checkpoint(every_epochs=None),
}


def make_run(folder: str, settings: dict[str, Any], given: Any, **changes: Any) -> lw.Run:
    """The run of these settings; ``changes`` are settings that this run has otherwise."""
    settings = {**settings, **changes}
    made = optimizers(settings["optimizer"], given)
    return lw.Run(
        Path("runs", folder),
        model=given,
        optimizer=made,
        scheduler=schedule(settings, made),
        ema=lw.EMA(0.8) if settings["ema"] else None,
        precision=settings["precision"],
        accumulate=settings["accumulate"],
        clip=settings["clip"],
        checkpoint=POLICIES[settings["checkpoint"]],
    )


class Diary:
    """Something of the user's with a state: numbers, and a generator of its own."""

    def __init__(self) -> None:
        self.entries: list[float] = []
        self.generator = random.Random(5)

    def write(self, value: float) -> None:
        """Remember a value and a draw."""
        self.entries.append(value + self.generator.random())

    def state_dict(self) -> dict[str, Any]:
        return {"entries": list(self.entries), "generator": self.generator.getstate()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.entries = list(state["entries"])
        self.generator.setstate(state["generator"])
