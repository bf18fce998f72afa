"""State that is in no ``state_dict``: generators of the program's objects, values that move while training.

A sampler with a ``torch.Generator``, a data set with a ``numpy.random.Generator``, a ``self.epoch`` that
somebody sets, a module that was put into eval mode: without them a resumed run would be another one. They
are found by walking from the loader and the models through attributes, containers, closures and the
module globals that their code names.
"""

from __future__ import annotations

import random
import types
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from torch.utils.data.dataloader import _BaseDataLoaderIter

from loopwright.train.data import attributes

LOOKED_AT = 20_000
"""Objects that one walk visits at most; an ordinary loader has a few dozen, a large model thousands."""
WIDTH = 100
"""Items of one container that are looked into: transforms are few, samples (which hold no state) many."""

_LIBRARIES = ("torch.", "numpy.", "builtins.", "collections.", "multiprocessing.", "threading.")
_OURS = "loopwright."
_SHARES = "loopwright.parallel.shares"
_WRAPPERS = ("torch.nn.parallel.", "torch.distributed.", "torch._dynamo.", "torch.jit.")
_CODE = ("__getitem__", "__getitems__", "__iter__", "__next__", "__call__", "forward")
"""Methods whose code may name a generator that is a global of its module."""


class OwnState:
    """The generators under some objects, and the plain attributes of the user's that have changed.

    Args:
        roots: where the walk begins, by the name that a path starts with.
    """

    def __init__(self, **roots: Any):
        self._generators: dict[str, Any] = {}
        self._holders: dict[str, Any] = {}
        self._first: dict[str, dict[str, Any]] = {}
        self.also(**roots)

    def also(self, **roots: Any) -> None:
        """Look at further objects."""
        for path, found in _walk(roots):
            if _is_generator(found):
                self._generators[path] = found
            else:
                self._holders[path] = found
                self._first[path] = attributes.read(found)

    @property
    def generators(self) -> dict[str, Any]:
        """The generators by path: ``loader.sampler.generator``."""
        return self._generators

    def capture(self) -> dict[str, Any]:
        """Return the generators' states, and the attributes that differ from when the walk was made."""
        state: dict[str, Any] = {}
        for path, generator in self._generators.items():
            state[path] = _get_state(generator)
        for path, holder in self._holders.items():
            first = self._first[path]
            for name, value in attributes.read(holder).items():
                if name not in first or not attributes.same(first[name], value):
                    state[f"{path}.{name}"] = value
        return state

    def restore(self, state: Mapping[str, Any], *, but: Any = None) -> None:
        """Put back what ``capture`` returned; what is not in it goes back to where the walk found it.

        Paths that the program has no longer are passed over. ``but`` is an object whose attributes stay
        as they are.
        """
        for path, generator in self._generators.items():
            if path in state:
                _set_state(generator, state[path])
        for path, holder in self._holders.items():
            if holder is but:
                continue
            first = self._first[path]
            for name, value in attributes.read(holder).items():
                wanted = state.get(f"{path}.{name}", first.get(name, value))
                if not attributes.same(wanted, value):
                    attributes.put(holder, name, wanted)
            for key, value in state.items():
                owner, _, name = key.rpartition(".")
                if owner == path and name not in vars(holder):
                    vars(holder)[name] = value

    @contextmanager
    def forked(self) -> Iterator[None]:
        """Run a block that leaves no trace in these objects."""
        before = self.capture()
        try:
            yield
        finally:
            self.restore(before)


def generators_of(frame: FrameType | None) -> dict[str, Any]:
    """Return the generators that are variables of a frame or globals of its module, by name."""
    return {name: value for name, value in _variables(frame) if _is_generator(value)}


def iterators_of(frame: FrameType | None, but: Any) -> list[str]:
    """Return the variables that are iterators over a ``DataLoader``, or generators of Python's.

    Nobody but the body of the loop knows how far they are.
    """
    kinds = (_BaseDataLoaderIter, types.GeneratorType)
    return [
        name for name, value in _variables(frame) if value is not but and isinstance(value, kinds)
    ]


def _variables(frame: FrameType | None) -> list[tuple[str, Any]]:
    if frame is None:
        return []
    if frame.f_code.co_name == "<module>" and frame.f_code.co_varnames:
        # Its comprehension's variables are fast ones; asked in one, Python 3.12 gives an old copy ever after.
        return list(frame.f_globals.items())
    return list({**frame.f_globals, **frame.f_locals}.items())


def _walk(roots: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield generators and the user's own objects with their paths, each once, near ones first."""
    waiting = deque(roots.items())
    seen = {id(random._inst), id(np.random.mtrand._rand)}  # the process's own: saved elsewhere
    seen |= {id(torch.default_generator)}
    keep = []  # bound methods and the like live only while somebody holds them
    while waiting and len(seen) < LOOKED_AT:
        path, found = waiting.popleft()
        if id(found) in seen or isinstance(
            found, (*attributes.PLAIN, torch.Tensor, np.ndarray, type)
        ):
            continue
        if type(found).__module__.startswith(_OURS) and not _holds_data(found):
            continue  # the run itself, where a transform knows it
        seen.add(id(found))
        keep.append(found)
        if _is_generator(found):
            yield path, found
            continue
        if _is_users(found):
            yield path, found
        waiting.extend(_parts(path, found))


def _parts(path: str, found: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(found, Mapping):
        yield from ((f"{path}[{key!r}]", value) for key, value in islice(found.items(), WIDTH))
    elif isinstance(found, (list, tuple, deque)):
        yield from ((f"{path}[{i}]", value) for i, value in enumerate(islice(found, WIDTH)))
    elif isinstance(found, types.MethodType):
        yield f"{path}.__self__", found.__self__
        yield from _parts(path, found.__func__)
    elif isinstance(found, types.FunctionType):
        yield from _parts_of_function(path, found)
    elif isinstance(found, partial):
        yield from ((f"{path}.func", found.func), (f"{path}.args", found.args))
        yield f"{path}.keywords", found.keywords
    elif not isinstance(found, (types.ModuleType, types.BuiltinFunctionType)):
        own = getattr(found, "__dict__", {})
        if isinstance(found, nn.Module):
            # Parameters and buffers are saved as such; hooks are in a dozen dicts of their own.
            own = {
                name: value for name, value in own.items() if name not in attributes.OF_EVERY_MODULE
            }
            own |= {f"_modules.{name}": part for name, part in found._modules.items()}
        # A DataLoader's iterator is a matter of its workers; its generator and samplers are attributes.
        yield from (
            (f"{path}.{name}", value)
            for name, value in own.items()
            if not (isinstance(found, DataLoader) and name == "_iterator")
        )
        if not _is_a_librarys(type(found)):
            yield from _parts_of_class(path, type(found))


def _parts_of_class(path: str, kind: type) -> Iterator[tuple[str, Any]]:
    for name in _CODE:
        method = getattr(kind, name, None)
        if isinstance(method, types.FunctionType):
            yield from _parts_of_function(f"{path}.{name}", method)
    for one in kind.__mro__:
        if not _is_a_librarys(one):
            yield from ((f"{path}.{k}", v) for k, v in vars(one).items() if _is_generator(v))


def _parts_of_function(path: str, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"{path}.{name}", cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if _is_generator(value) or isinstance(value, types.FunctionType):
            yield f"{function.__module__}.{name}", value


def _holds_data(found: Any) -> bool:
    return isinstance(found, Dataset) or type(found).__module__ == _SHARES


def _is_generator(value: Any) -> bool:
    kinds = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
    return isinstance(value, kinds) and not isinstance(value, random.SystemRandom)


def _is_a_librarys(kind: type) -> bool:
    return f"{kind.__module__}.".startswith(_LIBRARIES)


def _is_users(found: Any) -> bool:
    """Whether an object's plain attributes are somebody's own: a data set, a sampler, a transform."""
    if isinstance(found, DistributedSampler):
        return True  # set_epoch
    if isinstance(found, nn.Module):
        return not type(found).__module__.startswith(_WRAPPERS)  # mode, dropout's p
    return hasattr(found, "__dict__") and not (
        isinstance(found, (types.FunctionType, types.ModuleType, DataLoader))
        or _is_a_librarys(type(found))
    )


def _get_state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)
