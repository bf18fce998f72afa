"""What a program calls its objects: the variable that holds one, in the frames that run."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from loopwright.events.explained import ModelNote
from loopwright.explainer import objects
from loopwright.observe.sites import USER, kind_of

if TYPE_CHECKING:
    from loopwright.explainer.state import State


HELD = ("modules", "parameters", "trainable", "bytes", "tensors", "buffers")


class Names:
    """Names of optimizers, modules and leaves, kept as long as the recording; what gets one is watched."""

    def __init__(self, state: State):
        self.state = state
        self.known: dict[int, tuple[Any, str]] = {}
        """By identity, which another object may have later: with a weak reference."""
        self.models: list[ModelNote] = []
        self.optimizers: list[dict[str, Any]] = []

    def of(self, owner: Any) -> str:
        """The name that was found for an optimizer or a module; empty if none."""
        ref, name = self.known.get(id(owner), (None, ""))
        return name if ref is not None and ref() is owner else ""

    def _know(self, owner: Any, name: str) -> None:
        self.known[id(owner)] = (weakref.ref(owner), name)

    def optimizer(self, optimizer: Any, frame: Any) -> str:
        """What the program calls it."""
        name = self.of(optimizer) or name_of(optimizer, frame)
        self.state.add_optimizer(name, optimizer)
        if name and not self.of(optimizer):
            self._know(optimizer, name)
            self.state.name_optimizer(name, optimizer)
            facts = objects.optimizer_facts(optimizer)
            self.optimizers.append({"name": name, "kind": type(optimizer).__name__, **facts})
        return name or type(optimizer).__name__

    def module(self, module: torch.nn.Module, frame: Any) -> str:
        """What the program calls it; watched from now on if it has parameters."""
        name = name_of(module, frame) or self.of(module)
        if name:
            self._know(module, name)
        holds = any(True for _ in module.parameters()) or any(True for _ in module.buffers())
        if holds and self.state.add_module(name, module):
            kind = type(module).__name__
            facts = objects.module_facts(module)
            held = {key: facts[key] for key in HELD}
            self.models.append(ModelNote(name or kind, kind, **held))
        return name or type(module).__name__

    def leaf(self, leaf: torch.Tensor, frame: Any) -> str:
        """The name of a leaf; it is watched from now on."""
        entry = self.state.entries.get(id(leaf))
        if entry is not None and entry.ref() is leaf and entry.named:
            return entry.name
        name = name_of(leaf, frame) if frame is not None else ""
        self.state.add(name, leaf)
        entry = self.state.entries.get(id(leaf))
        if entry is not None and name:
            entry.name, entry.named = name, True
        return name or (entry.name if entry is not None else "")


def name_of(wanted: Any, frame: FrameType | None, *, limit: int = 12) -> str:
    """The variable or attribute, in the program's own frames from the innermost on; empty if none."""
    attribute = ""
    for space in spaces(frame, limit=limit):
        for name, value in list(space.items()):
            if value is wanted and not name.startswith("_"):
                return name
        attribute = attribute or _attribute(wanted, space)
    return attribute


def spaces(frame: FrameType | None, *, limit: int = 12) -> Iterator[dict[str, Any]]:
    """The variables of the program's own frames, from the innermost on."""
    while frame is not None and limit:
        if kind_of(frame.f_code.co_filename) == USER:
            limit -= 1
            yield frame.f_locals
            if frame.f_globals is not frame.f_locals:
                yield frame.f_globals
        frame = frame.f_back


def _attribute(wanted: Any, space: dict[str, Any]) -> str:
    for name, owner in list(space.items()):
        inner = getattr(owner, "__dict__", None)
        if isinstance(owner, (dict, list, tuple)) and len(owner) <= 16:
            items = owner.items() if isinstance(owner, dict) else enumerate(owner)
            found = [key for key, value in items if value is wanted]
            if found:
                return f"{name}[{found[0]!r}]"
        if not isinstance(inner, dict) or isinstance(owner, type) or name.startswith("_"):
            continue
        if isinstance(owner, torch.nn.Module):
            inner = {**inner, **inner.get("_modules", {}), **inner.get("_parameters", {})}
        for key, value in list(inner.items()):
            if value is wanted and not key.startswith("_"):
                return f"{name}.{key}"
    return ""
