"""What a program calls its objects: the variable that holds one, in the frames that run."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from types import FrameType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import torch

from loopwright.events.explained import ModelNote
from loopwright.explainer.effects import objects
from loopwright.observe.sites import USER, kind_of, variables

if TYPE_CHECKING:
    from loopwright.explainer.effects.state import State


ITEMS = 16
"""Of a container that is looked into."""
DEPTH = 4
"""Of paths like ``trainer.nets['g'].body``."""
MOST = 2000
"""Objects that are looked at from one frame's variables on."""
LEAVES = (str, bytes, int, float, bool, type(None))
HELD = ("modules", "parameters", "trainable", "bytes", "tensors", "buffers")


class Names:
    """Names of optimizers, modules and leaves, kept as long as the recording; what gets one is watched."""

    def __init__(self, state: State):
        self.state = state
        self.known: dict[int, tuple[Any, str]] = {}
        """By identity, which another object may have later: with a weak reference."""
        self.models: list[ModelNote] = []
        self._held: list[frozenset[int]] = []
        """Identities of the parameters of each."""
        self.optimizers: list[dict[str, Any]] = []

    def of(self, owner: Any) -> str:
        """The name that was found for an optimizer or a module; empty if none."""
        ref, name = self.known.get(id(owner), (None, ""))
        return name if ref is not None and ref() is owner else ""

    def _know(self, owner: Any, name: str) -> None:
        self.known[id(owner)] = (weakref.ref(owner), name)

    def optimizer(self, optimizer: Any, frame: Any) -> str:
        """What the program calls it."""
        name = self.of(optimizer) or name_of(optimizer, frame) or path_of(optimizer, frame)
        self.state.add_optimizer(name, optimizer)
        if name and not self.of(optimizer):
            self._know(optimizer, name)
            self.state.name_optimizer(name, optimizer)
            facts = objects.optimizer_facts(optimizer)
            self.optimizers.append({"name": name, "kind": type(optimizer).__name__, **facts})
        return name or type(optimizer).__name__

    def module(self, module: torch.nn.Module, frame: Any) -> str:
        """What the program calls it; watched from now on if it has parameters."""
        name = name_of(module, frame) or self.of(module) or path_of(module, frame)
        if name:
            self._know(module, name)
        holds = any(True for _ in module.parameters()) or any(True for _ in module.buffers())
        if holds and self.state.add_module(name, module):
            kind = type(module).__name__
            facts = objects.module_facts(module)
            held = {key: facts[key] for key in HELD}
            self.models.append(ModelNote(name or kind, kind, **held))
            self._held.append(frozenset(map(id, module.parameters())))
        return name or type(module).__name__

    def whole_models(self) -> list[ModelNote]:
        """Those with parameters that are no part of another; of copies (one a fold) the first."""
        found: dict[tuple[str, str, int], ModelNote] = {}
        for note, held in zip(self.models, self._held, strict=True):
            if note.parameters and not any(held < other for other in self._held):
                found.setdefault((note.name, note.kind, note.parameters), note)
        return list(found.values())

    def made(self, visit: Any) -> None:
        """A statement has assigned what it made: an optimizer is called so from now on."""
        visit.look()
        if any(facts["is"] == "optimizer" for facts in visit.objects):
            for name, ref in list(self.state.optimizers):
                one = ref()
                if not name and one is not None and name_of(one, visit.activation.frame):
                    self.optimizer(one, visit.activation.frame)

    def uncalled(self, frame: Any) -> None:
        """Watch models that the program holds and has not called: an average of weights moves too."""
        for _, one in held(frame):
            if isinstance(one, torch.nn.Module) and not self.of(one) and self.state.new_in(one):
                self.module(one, frame)

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


def path_of(wanted: Any, frame: FrameType | None) -> str:
    """The shortest path of attributes and items that leads there; empty if none."""
    return next((name for name, value in held(frame) if value is wanted), "")


def spaces(frame: FrameType | None, *, limit: int = 12) -> Iterator[dict[str, Any]]:
    """The variables of the program's own frames, from the innermost on."""
    while frame is not None and limit:
        if kind_of(frame.f_code.co_filename) == USER:
            limit -= 1
            own = variables(frame)
            yield own
            if frame.f_globals is not own:
                yield frame.f_globals
        frame = frame.f_back


def _attribute(wanted: Any, space: dict[str, Any]) -> str:
    for name, owner in list(space.items()):
        if name.startswith("_") and not isinstance(owner, (dict, list, tuple)):
            continue
        for path, value in _inside(owner):
            if value is wanted:
                return f"{name}{path}"
    return ""


def _inside(owner: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds: items of a small container, attributes of anything else."""
    if isinstance(owner, (dict, list, tuple)):
        if len(owner) <= ITEMS:
            items = owner.items() if isinstance(owner, dict) else enumerate(owner)
            yield from ((f"[{key!r}]", value) for key, value in list(items))
        return
    inner = getattr(owner, "__dict__", None)
    if not isinstance(inner, dict) or isinstance(owner, (type, ModuleType, FunctionType)):
        return
    if isinstance(owner, torch.nn.Module):
        inner = {**inner, **inner.get("_modules", {}), **inner.get("_parameters", {})}
    yield from ((f".{key}", value) for key, value in list(inner.items()) if not key.startswith("_"))


def held(frame: FrameType | None) -> Iterator[tuple[str, Any]]:
    """Objects in the program's variables and in what these hold, the nearest first, with their paths."""
    for space in spaces(frame):
        level = [(name, value) for name, value in list(space.items()) if not name.startswith("_")]
        seen: set[int] = set()
        for _ in range(DEPTH):
            below: list[tuple[str, Any]] = []
            for name, value in level:
                if id(value) in seen or isinstance(value, LEAVES) or len(seen) > MOST:
                    continue
                seen.add(id(value))
                yield name, value
                if not isinstance(value, (torch.Tensor, torch.optim.Optimizer)):
                    below += [(f"{name}{path}", one) for path, one in _inside(value)]
            level = below
