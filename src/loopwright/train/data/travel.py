"""Whether what a DataLoader's workers need can travel to them, known before one is started.

Workers that are forked have everything. Those that are started anew (``spawn``, ``forkserver``, the
default from Python 3.14 on) get the data set as bytes, which a lambda, an open file or a class that was
defined inside a function has none of. So they are made once beforehand, into nothing.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping
from multiprocessing import context
from multiprocessing.reduction import ForkingPickler
from types import FunctionType, GeneratorType, ModuleType
from typing import Any
from weakref import WeakSet

from torch.utils.data import DataLoader

from loopwright.errors import DataError
from loopwright.train.callsite import place_of

DEPTH = 6
"""Attributes of attributes that are looked into for the one that cannot travel."""

_CHECKED: WeakSet[DataLoader[Any]] = WeakSet()


def check(loader: Any) -> None:
    """Refuse a loader whose data set or functions cannot travel to its workers; once for each loader.

    Raises:
        DataError: names the attribute, what it is and where it was made.
    """
    if not isinstance(loader, DataLoader) or not loader.num_workers or loader in _CHECKED:
        return
    made = loader.multiprocessing_context or multiprocessing
    method = made.get_start_method()
    if method == "fork":
        return
    for name in ("dataset", "collate_fn", "worker_init_fn"):
        thing = getattr(loader, name)
        why = _refusal(thing)
        if why is not None:
            raise _cannot_travel(name, thing, method, why)
    _CHECKED.add(loader)


class _Nowhere:
    """A file that forgets what is written to it."""

    def write(self, data: bytes) -> int:
        return len(data)


class _Nobody:
    """Stands for the process that is being started; locks and pipes ask for it."""

    def duplicate_for_child(self, handle: int) -> int:
        return handle

    def DupFd(self, handle: int) -> int:  # noqa: N802 - multiprocessing's name
        return handle


def _refusal(thing: Any) -> Exception | None:
    """Return why something cannot travel; None if it can."""
    nobody: Any = _Nobody()
    before: Any = context.get_spawning_popen()
    context.set_spawning_popen(nobody)
    try:
        ForkingPickler(_Nowhere(), None).dump(thing)
    except Exception as error:  # whatever a __reduce__ raises  # noqa: BLE001
        return error
    finally:
        context.set_spawning_popen(before)
    return None


def _cannot_travel(name: str, thing: Any, method: str, why: Exception) -> DataError:
    what = "data set" if name == "dataset" else name
    path, culprit = _culprit(thing)
    its = f"its {path} is" if path else "it is"
    reason = f"{its} {_words(culprit) or f'a {type(culprit).__name__} ({_one_line(why)})'}"
    return DataError(
        f"the {what} cannot travel to workers that are started by {method}: {reason}",
        slug="cannot-travel", where=place_of(getattr(type(thing), "__getitem__", thing)),
        hint="a function or class at the top of a module travels; open files in the worker; or "
        "num_workers=0, or multiprocessing_context='fork'",
    )  # fmt: skip


def _culprit(thing: Any, path: str = "", depth: int = 0) -> tuple[str, Any]:
    """Return the innermost part that cannot travel, and the path to it."""
    if depth < DEPTH:
        for name, part in _parts(thing):
            if _refusal(part) is not None:
                return _culprit(part, path + name, depth + 1)
    return path, thing


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in thing.items())
    elif isinstance(thing, (list, tuple)):
        yield from ((f"[{number}]", part) for number, part in enumerate(thing))
    elif not isinstance(thing, (type, FunctionType, ModuleType)):
        yield from ((f".{name}", part) for name, part in getattr(thing, "__dict__", {}).items())


def _words(thing: Any) -> str | None:
    """Say what something is that never travels; None for other things."""
    if isinstance(thing, FunctionType):
        kind = "a lambda" if thing.__name__ == "<lambda>" else f"{thing.__name__}(), a function"
        inside = (
            "" if "<locals>" not in thing.__qualname__ or kind == "a lambda" else " inside another"
        )
        where = place_of(thing)
        return f"{kind}{inside}" + (f" ({where})" if where else "")
    if isinstance(thing, GeneratorType):
        return "a generator"
    if isinstance(thing, ModuleType):
        return f"the module {thing.__name__}"
    made = thing if isinstance(thing, type) else type(thing)
    if "<locals>" in made.__qualname__:
        return f"of the class {made.__name__}, which is defined inside a function"
    if hasattr(thing, "fileno"):
        return f"an open file ({getattr(thing, 'name', type(thing).__name__)})"
    return None


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
