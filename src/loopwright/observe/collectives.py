"""What ranks do with each other: collectives, messages from one rank to another, the groups for both.

An event's ``subject`` is the function's name, its ``kwargs`` hold all arguments by their names, defaults too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from loopwright.observe.sites import site
from loopwright.observe.swap import CodeSwap, Patch, plain_function

if TYPE_CHECKING:
    from loopwright.observe.watch import Observer

REDUCING = (
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "broadcast",
    "reduce",
    "all_gather_into_tensor",
    "reduce_scatter_tensor",
    "all_reduce_coalesced",
    "all_gather_coalesced",
)
"""Collectives with which gradients and weights are brought together."""
COLLECTIVES = (
    *REDUCING,
    "all_to_all",
    "all_to_all_single",
    "gather",
    "scatter",
    "barrier",
    "monitored_barrier",
    "all_gather_object",
    "gather_object",
    "broadcast_object_list",
    "scatter_object_list",
)
MESSAGES = ("send", "recv", "isend", "irecv")
GROUPS = ("init_process_group", "destroy_process_group")


def collective_points(observer: Observer) -> Iterator[Patch]:
    """Patch what somebody listens to, one patch at a time."""
    if not torch.distributed.is_available():
        return
    for kind, through_torch, names in (
        ("collective", False, COLLECTIVES),
        ("message", True, MESSAGES),
        ("group", True, GROUPS),
    ):
        for name in names if observer.wanted(kind) else ():
            yield CodeSwap(getattr(torch.distributed, name), _named(observer, kind, through_torch))


def _named(observer: Observer, kind: str, through_torch: bool) -> Callable[[Any], Any]:
    """A hook whose events know the function's name and its arguments by theirs."""
    before = observer.handlers("before", kind)
    after = observer.handlers("after", kind)
    here = observer.here
    compiling = torch.compiler.is_compiling

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        code = plain_function(original).__code__
        parameters = code.co_varnames[: code.co_argcount]

        def hook(*args: Any, **kwargs: Any) -> Any:
            if compiling() or here.busy:
                return original(*args, **kwargs)
            where = site(2, through_torch=through_torch)
            if where is None:
                return original(*args, **kwargs)
            named = {**dict(zip(parameters, args, strict=False)), **kwargs}
            event = observer.event(kind, where, original.__name__, args, named)
            if not through_torch:
                observer.rare(event)
            observer.tell(before, event)
            try:
                event.result = original(*args, **kwargs)
            except BaseException:  # the program's own, a Ctrl-C too: noted, and passed on
                event.failed = True
                observer.tell(after, event)
                raise
            observer.tell(after, event)
            return event.result

        return hook

    return make
