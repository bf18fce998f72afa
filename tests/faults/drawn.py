"""The settings of a training program, drawn from the full product of what can be set."""

from __future__ import annotations

import random
from typing import Any

PRODUCT: dict[str, tuple[Any, ...]] = {
    "shape": ("one loop", "two loops", "fine-tuning", "five folds"),
    "loader": (
        "sequential", "shuffled", "shuffled with generator", "weighted", "weighted with generator",
        "lazy sampler", "python sampler", "batch sampler", "own batch sampler", "stateful",
        "stateful weighted", "stream", "shuffle buffer", "function",
    ),
    "workers": (0, 2),
    "persistent": (False, True),
    "augment": ("none", "torch", "random", "numpy"),
    "body_draws": (False, True),
    "optimizer": ("sgd", "adamw", "lbfgs", "two"),
    "schedule": ("none", "update", "epoch", "metric"),
    "ema": (False, True),
    "precision": ("fp32", "bf16", "fp16"),
    "accumulate": (1, 3),
    "clip": (None, 1.0, "value:0.5"),
    "checkpoint": ("steps", "every step", "epochs", "minutes", "ends"),
    "validation": ("none", "plain", "draws"),
    "limits": ({"epochs": 3}, {"steps": 20}, {"samples": 75}),
}  # fmt: skip
"""Every setting with its values."""

REPRESENTATIVE: dict[str, Any] = {
    "shape": "one loop", "loader": "shuffled with generator", "workers": 0, "persistent": False,
    "augment": "random", "body_draws": True, "optimizer": "two", "schedule": "metric", "ema": True,
    "precision": "fp32", "accumulate": 3, "clip": 1.0, "checkpoint": "steps", "validation": "plain",
    "limits": {"epochs": 2}, "seed": 1,
}  # fmt: skip
"""One program that has a bit of everything, for the tests that go through every operation of a run."""


def impossible(settings: dict[str, Any]) -> str | None:
    """Why these settings are no program; None when they are one."""
    if settings["persistent"] and not settings["workers"]:
        return "persistent workers need workers"
    if settings["loader"] == "function" and settings["workers"]:
        return "a function has no workers"
    if settings["optimizer"] == "lbfgs" and settings["accumulate"] > 1:
        return "a closure is one update (minimize-in-window)"
    if settings["optimizer"] == "lbfgs" and settings["precision"] == "fp16":
        return "closures and a gradient scaler exclude each other (minimize-fp16)"
    return None


def draw(generator: random.Random, **fixed: Any) -> dict[str, Any]:
    """One possible program, every one equally likely; ``fixed`` settings are as they are given."""
    while True:
        settings = {name: generator.choice(values) for name, values in PRODUCT.items()}
        settings.update(fixed)
        if impossible(settings) is None:
            return {**settings, "seed": generator.randrange(1000)}


def say(settings: dict[str, Any]) -> str:
    """Settings in one line."""
    parts = []
    for name, value in settings.items():
        if isinstance(value, bool):
            parts += [name] * value
        elif isinstance(value, dict):
            parts += [f"{k} {v}" for k, v in value.items()]
        elif value not in ("none", None):
            parts.append(value if isinstance(value, str) else f"{name} {value}")
    return ", ".join(parts)
