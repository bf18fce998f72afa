"""Everything that a step of a program could change, noted and put back.

Found from the variables of the frame that the loop runs in and from the globals of the program's own modules,
through attributes of the program's own objects, of modules, optimizers and schedulers, of those of installed
libraries (a Trainer, an Accelerator, our own Run), and through containers. Contents of tensors, attributes,
items, bindings and the states of generators are put back. What cannot be put back, an iterator that has moved
on, is known by the names that lead to it.
"""

from __future__ import annotations

import contextlib
import random
import sys
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from loopwright.explainer.again.slices import NotReplayedError
from loopwright.explainer.effects import values
from loopwright.observe import content
from loopwright.observe.sites import INSTALLED, LIBRARY, PYTHONS, USER, kind_of, variables

CONTAINERS = (list, dict, set, deque)
WALKED, COPIED, MOST = 1_000, 100_000, 50_000
"""Items of a container that are followed, and that are put back; objects in all."""
LARGE = 1 << 24
"""Bytes from which on a tensor that is no parameter is not copied, but asked for its version."""
_WATCHERS = tuple(f"loopwright.{room}" for room in ("observe", "explainer", "checker"))
_UNSET = object()
INSIDE = frozenset(vars(torch.nn.Module())) | {"_parameters", "_modules", "_buffers"}
"""Attributes of every module; parameters and buffers are found by themselves."""


class Reach:
    """What can be reached from a frame, as it is now."""

    def __init__(self, frame: types.FrameType):
        self.modules: list[torch.nn.Module] = []
        self.optimizers: list[Any] = []
        self.objects: list[Any] = []
        self.containers: list[Any] = []
        self.tensors: list[torch.Tensor] = []
        self.scalers: list[Any] = []
        self.generators: list[Any] = []
        self.cells: list[types.CellType] = []
        self.classes: list[type] = []
        """Those that the program wrote: a step may count in an attribute of one."""
        self.iterators: set[str] = set()
        """Names of variables and attributes that lead to one."""
        self.compiled = ""
        """The name of something that torch.compile made."""
        self.spaces = _spaces(frame)
        self._seen: dict[int, Any] = {}
        self._walk([(name, value) for name, value in variables(frame).items() if _own(name)])
        for space in self.spaces:
            self._walk([(name, value) for name, value in list(space.items()) if _own(name)])

    def add(self, other: Reach) -> None:
        """What the other reaches is reached too."""
        for name in (
            "modules",
            "optimizers",
            "objects",
            "containers",
            "tensors",
            "scalers",
            "generators",
            "cells",
            "classes",
        ):
            mine: list[Any] = getattr(self, name)
            known = {id(one) for one in mine}
            mine += [one for one in getattr(other, name) if id(one) not in known]
        known = {id(one) for one in self.spaces}
        self.spaces += [one for one in other.spaces if id(one) not in known]

    def _walk(self, start: list[tuple[str, Any]]) -> None:
        pending = list(start)
        while pending:
            name, value = pending.pop()
            if id(value) in self._seen or isinstance(value, (types.ModuleType, str, int, float)):
                continue
            self._seen[id(value)] = value
            if isinstance(value, type) and not _programs(value.__module__):
                continue
            if len(self._seen) > MOST:
                raise NotReplayedError(
                    f"it can reach more than {MOST:,} objects, too many to put back"
                )
            pending += [
                ("", kind) for kind in type(value).__mro__[:-1] if id(kind) not in self._seen
            ]
            pending += self._note(name, value)

    def _note(self, name: str, value: Any) -> list[tuple[str, Any]]:
        """Put a value into its list; what is to be followed from it."""
        if _is_compiled(value):
            self.compiled = name
        if isinstance(value, torch.Tensor):
            self.tensors.append(value)
        elif isinstance(value, type):
            self.classes.append(value)
            held = [getattr(one, "__func__", one) for one in vars(value).values()]
            return [("", one) for one in held]
        elif isinstance(value, torch.nn.Module):
            self.modules.append(value)
            inner = [(key, one) for key, one in vars(value).items() if key not in INSIDE]
            return [*inner, *((name, one) for one in value._modules.values() if one is not None)]
        elif isinstance(value, torch.optim.Optimizer):
            self.optimizers.append(value)
        elif isinstance(value, torch.amp.GradScaler):
            self.scalers.append(value)
        elif isinstance(value, CONTAINERS) and len(value) <= COPIED:
            self.containers.append(value)
            items = value.values() if isinstance(value, dict) else value
            return [(name, one) for one in items] if len(value) <= WALKED else []
        elif isinstance(value, tuple):
            return [(name, one) for one in value[:WALKED]]
        elif _state_of(value) is not None:
            self.generators.append(value)
        elif isinstance(value, Iterator):
            self.iterators.add(name)
        elif isinstance(value, types.MethodType):
            return [(name, value.__self__), (name, value.__func__)]
        elif isinstance(value, types.FunctionType):
            if kind_of(value.__code__.co_filename) != USER:
                return []
            self.objects.append(value)  # ``train.calls += 1``
            self.cells += (cells := list(value.__closure__ or ()))
            kept = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
            kept += [*vars(value).values(), *(one.cell_contents for one in cells if _filled(one))]
            return [(name, one) for one in kept]
        elif isinstance(value, LRScheduler) or _is_users(value):
            self.objects.append(value)
            return list(vars(value).items())
        elif _is_librarys(value):
            self.objects.append(value)
            return [("", one) for one in _attributes(value).values()]  # no name of the program's
        return []


class Noted:
    """The state of everything that can be reached, to be put back.

    Args:
        reach: what can be reached.
        known: tensors that somebody else puts back.
    """

    def __init__(self, reach: Reach, known: set[int]):
        self.reach = reach
        self.attributes = [
            (one, _attributes(one)) for one in [*reach.modules, *reach.objects, *reach.optimizers]
        ]
        self.classes = [(one, dict(vars(one))) for one in reach.classes]
        self.groups = [
            (one, list(one.param_groups), [dict(group) for group in one.param_groups])
            for one in reach.optimizers
        ]
        self.items = [(one, one.copy()) for one in reach.containers]
        self.bindings = [(space, dict(space)) for space in reach.spaces]
        self.cells = [(cell, cell.cell_contents) for cell in reach.cells if _filled(cell)]
        self.states = [(one, _state_of(one)) for one in reach.generators]
        self.globals = generators()
        with values.quiet():
            self.contents = [
                (one, one._version, one.detach().clone())
                for one in reach.tensors
                if id(one) not in known and content.readable(one) and values.bytes_of(one) < LARGE
            ]

    def put_back(self) -> None:
        """Everything is as it was."""
        for owner, inner in self.attributes:
            _set_attributes(owner, inner)
        for kind, inner in self.classes:
            _set_class(kind, inner)
        for optimizer, groups, contents in self.groups:
            optimizer.param_groups[:] = groups  # one may have come since
            for group, inner in zip(groups, contents, strict=True):
                _rebind(group, inner)
        for container, copy in self.items:
            _refill(container, copy)
        for space, inner in self.bindings:
            _rebind(space, inner)
        for cell, held in self.cells:
            cell.cell_contents = held
        for one, state in self.states:
            _set_state(one, state)
        set_generators(self.globals)
        with values.quiet():
            changed = [
                (tensor, version, copy)
                for tensor, version, copy in self.contents
                if tensor._version != version or not content.same(tensor.detach(), copy)
            ]
            for tensor, _, copy in changed:
                tensor.detach().copy_(copy)
        set_versions([one[0] for one in changed], [one[1] for one in changed])


def _own(name: str) -> bool:
    return not name.startswith("__")


def _spaces(frame: types.FrameType) -> list[dict[str, Any]]:
    """Globals of the frame and of the program's own modules."""
    found = {id(frame.f_globals): frame.f_globals}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and kind_of(path) == USER and not path.endswith(".so"):
            found[id(vars(module))] = vars(module)
    return list(found.values())


def _is_users(value: Any) -> bool:
    """An object of a class that the program wrote."""
    if not hasattr(value, "__dict__") or callable(getattr(value, "__code__", None)):
        return False
    return _programs(type(value).__module__)


def _programs(module: str) -> bool:
    """A module that the program wrote."""
    return kind_of(getattr(sys.modules.get(module), "__file__", None) or "<frozen>") == USER


def _is_librarys(value: Any) -> bool:
    """An object of an installed library's class; not torch's, not Python's, and nothing that watches."""
    kind = type(value)
    if kind.__module__.startswith(_WATCHERS) or isinstance(value, (BaseException, types.FrameType)):
        return False
    path = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if path is None or not path.endswith(".py") or kind_of(path) != LIBRARY:
        return False
    return not path.startswith(PYTHONS) or any(mark in path for mark in INSTALLED)


def _slots(kind: type) -> list[tuple[str, Any]]:
    """Names and descriptors of the slots of a class."""
    return [
        (name, vars(one)[name])
        for one in kind.__mro__
        for name in _names(vars(one).get("__slots__", ()))
        if isinstance(vars(one).get(name), types.MemberDescriptorType)
    ]


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _attributes(value: Any) -> dict[str, Any]:
    """What an object holds, in its dictionary and in its slots."""
    found = dict(getattr(value, "__dict__", {}))
    for name, slot in _slots(type(value)):
        with contextlib.suppress(AttributeError):  # one that was never set
            found[name] = slot.__get__(value)
    return found


def _set_attributes(value: Any, inner: dict[str, Any]) -> None:
    slots = dict(_slots(type(value)))
    for name, slot in slots.items():
        now = getattr(value, name, _UNSET)
        if now is inner.get(name, _UNSET):
            continue
        if name in inner:
            slot.__set__(value, inner[name])
        else:
            slot.__delete__(value)
    if hasattr(value, "__dict__"):
        _rebind(vars(value), {name: held for name, held in inner.items() if name not in slots})


def _set_class(kind: type, inner: dict[str, Any]) -> None:
    now = dict(vars(kind))
    for name in now.keys() - inner.keys():
        delattr(kind, name)
    for name, held in inner.items():
        if now.get(name, _UNSET) is not held and name not in ("__dict__", "__weakref__"):
            setattr(kind, name, held)


def _is_compiled(value: Any) -> bool:
    if isinstance(value, torch.nn.Module):
        return value._compiled_call_impl is not None or "_orig_mod" in value._modules
    return isinstance(value, types.FunctionType) and hasattr(value, "_torchdynamo_orig_callable")


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  it raises where it is empty
    except ValueError:
        return False
    return True


def _state_of(value: Any) -> Any:
    """The state of a random generator; None for anything else."""
    numpy = sys.modules.get("numpy")
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, random.Random):
        return value.getstate()
    if numpy is not None and isinstance(value, numpy.random.Generator):
        return value.bit_generator.state
    if numpy is not None and isinstance(value, numpy.random.RandomState):
        return value.get_state()
    return None


def _set_state(value: Any, state: Any) -> None:
    if isinstance(value, random.Random):
        value.setstate(state)
    elif hasattr(value, "bit_generator"):
        value.bit_generator.state = state
    else:
        value.set_state(state)


def generators() -> dict[str, Any]:
    """The states of the global generators."""
    found: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        found["numpy"] = numpy.random.get_state()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def set_generators(found: dict[str, Any]) -> None:
    """Put the global generators into these states."""
    torch.set_rng_state(found["torch"])
    random.setstate(found["python"])
    if "numpy" in found:
        sys.modules["numpy"].random.set_state(found["numpy"])
    if "cuda" in found:
        torch.cuda.set_rng_state_all(found["cuda"])


def set_versions(tensors: list[torch.Tensor], versions: list[int]) -> None:
    """Give tensors the version counters that they had."""
    if tensors:
        change = torch._C._autograd._unsafe_set_version_counter  # type: ignore[attr-defined]
        change(tuple(tensors), tuple(versions))


def _rebind(space: dict[str, Any], inner: dict[str, Any]) -> None:
    """Names mean again what they meant, in the same order."""
    if len(space) == len(inner) and all(space.get(key, space) is inner[key] for key in inner):
        return
    for name in [name for name in space if name not in inner]:
        del space[name]
    space.update(inner)


def _refill(container: Any, copy: Any) -> None:
    """Give a container back what it held, if that is not what it holds."""
    if isinstance(container, dict):
        same = list(container) == list(copy) and all(container[key] is copy[key] for key in copy)
    elif isinstance(container, set):
        same = container == copy
    else:
        same = len(container) == len(copy) and all(
            a is b for a, b in zip(container, copy, strict=True)
        )
    if same:
        return
    container.clear()
    if isinstance(container, (list, deque)):
        container.extend(copy)
    else:
        container.update(copy)
