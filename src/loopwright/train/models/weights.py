"""Weights from a run or a file into a model, with a table of what does not fit."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from loopwright.checkpoint.weights import load_weights_file
from loopwright.errors import CheckpointError, LoopwrightWarning

__all__ = ["Loaded", "load_weights"]

_ROWS = 12
_WRAPPERS = ("_orig_mod.", "module.")


@dataclass(slots=True)
class Loaded:
    """What came of loading.

    Attributes:
        loaded: names whose values are now the file's.
        missing: names of the model that the file lacks; they keep their values.
        unexpected: names of the file that the model lacks.
        mismatched: names of both with the file's and the model's shape; they keep their values.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether file and model have the same names and shapes."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} tensors fit"]
        lines += _rows("missing in the file", self.missing)
        lines += _rows("not in the model", self.unexpected)
        lines += _rows(
            "another shape",
            (f"{n}: file {file}, model {model}" for n, (file, model) in self.mismatched.items()),
        )
        return "\n".join(lines)


def load_weights(
    path: str | Path,
    model: nn.Module,
    which: Literal["final", "best", "ema", "raw"] = "final",
    *,
    strict: bool = True,
    prefix: str = "",
) -> Loaded:
    """Load the weights of a run, or of any safetensors file, into ``model`` in place.

    Values are copied into the model's own tensors: its device, types and optimizer stay.

    Args:
        path: a run's folder, or a ``.safetensors`` file.
        model: names are compared without what ``torch.compile`` or a wrapper puts in front.
        which: of a run's folder: ``final``, what evaluation saw last (with an EMA the averaged weights);
            ``best``, by ``keep_best``; ``ema``, the averaged ones, an error without an EMA; ``raw``, the
            trained ones themselves.
        strict: everything has to fit. False: what fits in name and shape is loaded, the rest is a
            warning.
        prefix: take only the file's names that begin with it, without it: ``"generator."``.

    Returns:
        What was loaded and what not.

    Raises:
        CheckpointError: no such weights, a damaged file, names or shapes that do not fit (with
            ``strict``), or not one that does. The model is then unchanged.
    """
    path = Path(path)
    of_a_run = path.is_dir()
    file = _file(path, which) if of_a_run else path
    tensors, _ = load_weights_file(file, follow=not of_a_run)
    own = {n: t for n, t in model.state_dict().items() if isinstance(t, Tensor)}
    tensors = _renamed(_below(tensors, prefix), own)
    found = _compare(tensors, own)
    if not found.loaded or (strict and not found.complete):
        raise CheckpointError(
            f"the weights do not fit the model: {found}",
            slug="weights-mismatch",
            where=str(file),
            hint="load_weights(..., strict=False) loads what fits" if found.loaded else None,
        )
    if not found.complete:
        warnings.warn(LoopwrightWarning(f"{file.name}: {found}"), stacklevel=2)
    with torch.no_grad():
        model.load_state_dict({name: tensors[name] for name in found.loaded}, strict=False)
    return found


def _file(folder: Path, which: str) -> Path:
    """Return the file of a run's folder that holds the weights asked for."""
    raw = folder / "raw.safetensors"
    if which == "ema" and not raw.exists():
        raise CheckpointError(
            "this run has no averaged weights: it had no EMA, or has not ended.",
            slug="no-such-weights",
            where=str(folder),
        )
    name = {"best": "best", "raw": "raw" if raw.exists() else "final"}.get(which, "final")
    file = folder / f"{name}.safetensors"
    if not file.exists():
        there = sorted(each.name for each in folder.glob("*.safetensors"))
        raise CheckpointError(
            f"the run has no {file.name}; it has {', '.join(there) or 'no weights yet'}.",
            slug="no-such-weights",
            where=str(folder),
        )
    return file


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _renamed(tensors: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take or put a wrapper's prefix off or on where that is all that differs."""
    if not tensors or not own or tensors.keys() & own.keys():
        return tensors
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in tensors):
            return _renamed(_below(tensors, wrapper), own)
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in own):
            return {wrapper + name: tensor for name, tensor in tensors.items()}
    return tensors


def _compare(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Loaded:
    found = Loaded()
    for name, tensor in own.items():
        if name not in tensors:
            found.missing.append(name)
        elif tensors[name].shape != tensor.shape:
            found.mismatched[name] = (tuple(tensors[name].shape), tuple(tensor.shape))
        else:
            found.loaded.append(name)
    # A file may hold a shared tensor under one of its names only.
    filled = {own[name].data_ptr() for name in found.loaded} - {0}
    found.missing = [name for name in found.missing if own[name].data_ptr() not in filled]
    found.unexpected = [name for name in tensors if name not in own]
    return found


def _rows(title: str, names: Iterable[str]) -> list[str]:
    names = list(names)
    if not names:
        return []
    more = [f"    ... and {len(names) - _ROWS} more"] if len(names) > _ROWS else []
    return [f"  {title} ({len(names)}):", *(f"    {name}" for name in names[:_ROWS]), *more]
