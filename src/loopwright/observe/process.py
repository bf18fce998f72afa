"""How an observer gets into a program that runs on its own, and into the processes that it starts.

``environment`` makes the environment of a program whose Python processes, children included, begin with
``startup/sitecustomize.py``. That calls ``begin``, which waits until the program itself imports torch (a
program may set environment variables before), and then calls the function that ``LOOPWRIGHT_START`` names.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

START = "LOOPWRIGHT_START"
"""``module:function`` to call once torch is there."""
FOLDER = "LOOPWRIGHT_FOLDER"
"""Where each process leaves what it found."""
_PACKAGE = "LOOPWRIGHT_PACKAGE"
_STARTUP = str(Path(__file__).parent / "startup")


def environment(base: Mapping[str, str], start: str, folder: str, **more: str) -> dict[str, str]:
    """``base`` with what a process and its children need to begin observed."""
    path = base.get("PYTHONPATH")
    return {
        **base,
        **more,
        START: start,
        FOLDER: folder,
        _PACKAGE: str(Path(__file__).parents[2]),
        "PYTHONPATH": _STARTUP + (os.pathsep + path if path else ""),
    }


def begin() -> None:
    """Call the start function now if torch is imported, else as soon as the program has imported it."""
    atexit.register(_note_end)
    module, _, name = os.environ[START].partition(":")

    def start() -> None:
        getattr(importlib.import_module(module), name)()

    if "torch" in sys.modules:
        start()
    else:
        sys.meta_path.insert(0, _WaitsForTorch(start))


def _note_end() -> None:
    """Leave the name of the exception that ends this process, also of one that imported no torch."""
    exception = ended_by()
    if exception is not None:
        Path(os.environ[FOLDER], f"{os.getpid()}.end").write_text(exception)


class _WaitsForTorch(importlib.abc.MetaPathFinder):
    """Finds nothing itself; lets torch's own loader run and calls ``then`` after it."""

    def __init__(self, then: Callable[[], None]):
        self.then = then

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:  # noqa: ARG002  its protocol
        """Torch's own spec, with its loader wrapped."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torch")
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenCalls(spec.loader, self.then)
        return spec


class _ThenCalls(importlib.abc.Loader):
    """torch's loader for one import; the module ends up with the loader that it would have had."""

    def __init__(self, loader: Any, then: Callable[[], None]):
        self.loader, self.then = loader, then

    def create_module(self, spec: Any) -> Any:
        return self.loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.then()


def at_end(write: Callable[[], None]) -> None:
    """Call ``write`` once when this process ends, in children of multiprocessing too.

    Those end with ``os._exit`` after their own finalizers, so exit functions are not enough; and they
    forget finalizers that were registered before they began, so it is registered again then.
    """
    from multiprocessing import util

    done: list[int] = []

    def once() -> None:
        if os.getpid() not in done:
            done.append(os.getpid())
            write()

    class Anchor:
        """Kept alive by the function below; multiprocessing holds it weakly."""

    anchor = Anchor()
    once.anchor = anchor  # type: ignore[attr-defined]

    def in_child(_: object) -> None:
        util.Finalize(None, once, exitpriority=-1000)

    util.register_after_fork(anchor, in_child)
    if _is_child():
        in_child(anchor)
    atexit.register(once)


def _is_child() -> bool:
    """Whether multiprocessing began this process; a spawned one knows its parent only after its imports."""
    from multiprocessing import process

    spawned = getattr(process.current_process(), "_inheriting", False)
    return spawned or process.parent_process() is not None


def after_fork(renew: Callable[[], None]) -> None:
    """Call ``renew`` in every process that is forked from this one."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)


def ended_by() -> str | None:
    """The type of the exception that ends this process, if one does; asked from an exit function.

    A child of multiprocessing runs those while the exception is on its way, with torch's spawn as
    ``SystemExit(1)``.
    """
    last = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None) or sys.exc_info()[1]
    if isinstance(last, SystemExit) and not last.code:
        return None
    return type(last).__name__ if last is not None else None
