"""Where a program seeds a generator of the whole process, or sets it to a state.

``torch.manual_seed`` is not among them, since it is an event of its own. From a generator's state alone
seeding and drawing can't be told apart: both change it.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from loopwright.observe.sites import site
from loopwright.observe.swap import AttributePatch, CodeSwap, Patch

if TYPE_CHECKING:
    from loopwright.observe.watch import Observer

KIND = "generator"
"""Of the events: ``subject`` is the generator's name (torch, cuda, python, numpy), ``name`` is seed or state,
or "put back" where torch sets a state for itself (``fork_rng``, checkpointing).
"""


def seed_points(observer: Observer) -> Iterator[Patch]:
    """One patch for each function, where somebody listens."""
    if not observer.wanted(KIND):
        return
    for generator, what, function in (
        ("torch", "seed", torch.seed),
        ("torch", "state", torch.set_rng_state),
        ("cuda", "seed", torch.cuda.manual_seed),
        ("cuda", "seed", torch.cuda.manual_seed_all),
        ("cuda", "state", torch.cuda.set_rng_state),
    ):
        yield CodeSwap(function, _hook(observer, generator, what, depth=2))
    # ``random.seed`` is a method in Python, of the one ``Random`` that the module's functions belong to.
    mine = random.seed.__self__  # type: ignore[attr-defined]
    for what, method in (("seed", random.Random.seed), ("state", random.Random.setstate)):
        yield CodeSwap(method, _hook(observer, "python", what, depth=2, owner=mine))
    if importlib.util.find_spec("numpy") is not None:  # imported when it is first used, maybe later
        functions = importlib.import_module("numpy.random")
        for what, name in (("seed", "seed"), ("state", "set_state")):
            yield AttributePatch(functions, name, _hook(observer, "numpy", what, depth=1))


def _hook(
    observer: Observer, generator: str, what: str, *, depth: int, owner: Any = None
) -> Callable[[Any], Any]:
    before = observer.handlers("before", KIND)
    after = observer.handlers("after", KIND)
    here = observer.here
    compiling = torch.compiler.is_compiling

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*args: Any, **kwargs: Any) -> Any:
            if compiling() or here.busy or (owner is not None and args[0] is not owner):
                return original(*args, **kwargs)
            where = site(depth, through_torch=what == "state")
            if where is None:
                return original(*args, **kwargs)
            by_torch = what == "state" and site(depth) is None
            given = args[1:] if owner is not None else args
            event = observer.event(KIND, where, generator, given, kwargs)
            event.name = "put back" if by_torch else what
            observer.tell(before, event)
            result = original(*args, **kwargs)
            observer.tell(after, event)
            return result

        return hook

    return make
