"""The refusal of a value that cannot be stored: its path, its kind, and what to store instead."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, NoReturn

import numpy as np
import torch

from loopwright.errors import UsageError


class UnsupportedState(UsageError):  # noqa: N818  read as a noun in `except`
    """A value in a state that cannot be stored; ``path`` says which, ``kind`` what it is."""

    path = ""
    kind = ""


def refuse(value: Any, path: str, *, kind: str | None = None) -> NoReturn:
    """Raise `UnsupportedState` for the value at ``path``.

    Args:
        value: what was found.
        path: where: ``state['worker'][0]``.
        kind: what it is called in the message; its class by default.
    """
    kind = kind or type(value).__qualname__
    error = UnsupportedState(
        f"{path}: {kind} cannot be stored in a checkpoint",
        slug="unsupported-state",
        hint=_hint(value),
    )
    error.path, error.kind = path, kind
    raise error


def _hint(value: Any) -> str:
    if isinstance(value, torch.Generator):
        return "store generator.get_state() and restore it with set_state()"
    if isinstance(value, torch.Tensor):
        return "store a dense torch.Tensor: tensor.to_dense(), tensor.dequantize(), tensor.rename(None)"
    if isinstance(value, np.ndarray):
        return "store a plain numpy array of numbers or text"
    if isinstance(value, os.PathLike):
        return "store str(path)"
    if isinstance(value, enum.Enum):
        return "define the enum at the top of a module, so that its name leads to it"
    if hasattr(value, "state_dict"):
        return "store its state_dict(), or give the object to run.track(name, object)"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return "store tuple(value) or value._asdict()"
    if is_dataclass(value):
        return "store dataclasses.asdict(value)"
    for base in (str, bytes, bool, int, float, dict, list, tuple, set):
        if isinstance(value, base):
            return f"store {base.__name__}(value)"
    if isinstance(value, Callable):
        return "functions are not stored: build it again when the program starts"
    return "store numbers, text, lists, dicts and tensors; rebuild the object from them"
