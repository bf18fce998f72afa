"""Operations that are written in C, noted only inside a forward that is being recorded.

``Tensor.view`` and its like are called dozens of times a step, so no hook stays on them: attributes are
set when a recorded forward begins and deleted when it ends. What else is called meanwhile, in other threads
too, goes straight through. Where anything is compiled they are never set: Dynamo's guards would see them come
and go, and compile again.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from loopwright.observe import graph
from loopwright.observe.sites import Site, site
from loopwright.observe.swap import AttributePatch, anything_compiled

if TYPE_CHECKING:
    from loopwright.observe.watch import Observer

FUNCTIONS = (
    (torch.Tensor, "view"),
    (torch.Tensor, "reshape"),
    (torch.Tensor, "softmax"),
    (torch.Tensor, "log_softmax"),
    (torch, "reshape"),
    (torch, "softmax"),
    (torch, "log_softmax"),
    (torch.nn.functional, "scaled_dot_product_attention"),
)
MOST = 4096
"""Operations that are noted in one forward."""


class Operation:
    """One call: no tensor is kept, only shapes, and what numbers it was given by position or name."""

    __slots__ = ("given", "name", "plain", "result", "site")

    def __init__(self, name: str, where: Site, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.name, self.site = name, where
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        self.given = tuple(first.shape) if first is not None else ()
        given = [*enumerate(args), *kwargs.items()]
        self.plain = {key: value for key, value in given if isinstance(value, (int, float))}
        self.result: tuple[int, ...] = ()


class Operations:
    """The attributes, set while at least one recorded forward runs."""

    def __init__(self, observer: Observer):
        self.here = observer.here
        self.lock = threading.Lock()
        self.users = 0
        self.patches = observer.passing

    def begin(self) -> bool:
        """A recorded forward of this thread begins; False where its operations cannot be noted."""
        if anything_compiled():
            return False
        self.here.operations = []
        with self.lock:
            self.users += 1
            if self.users == 1:
                self.patches += [AttributePatch(*one, self._hook) for one in FUNCTIONS]
        return True

    def end(self) -> None:
        """It has ended; ``here.operations`` is still there for whoever hears of it."""
        with self.lock:
            self.users -= 1
            if self.users == 0:
                while self.patches:
                    self.patches.pop().restore()

    def _hook(self, original: Callable[..., Any]) -> Callable[..., Any]:
        here = self.here
        compiling = torch.compiler.is_compiling
        name = original.__name__
        through_torch = "softmax" in name  # which F.softmax and nn.Softmax call for the program

        @functools.wraps(original, updated=())
        def hook(*args: Any, **kwargs: Any) -> Any:
            if compiling() or here.busy or here.operations is None:
                return original(*args, **kwargs)
            where = site(1, through_torch=through_torch)
            if where is None or len(here.operations) >= MOST:
                return original(*args, **kwargs)
            result = original(*args, **kwargs)
            noted = Operation(name, where, args, kwargs)
            if isinstance(result, torch.Tensor):
                noted.result = tuple(result.shape)
                if result.grad_fn is not None:
                    graph.made_at(result.grad_fn, where)
            here.operations.append(noted)
            return result

        return hook
