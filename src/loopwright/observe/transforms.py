"""Function transforms of ``torch.func``: gradients, Jacobians, and modules called with other parameters.

Inside a transform there are no numbers to read. Its outermost call is an event; of ``vmap`` only what is
computed under it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch._functorch import eager_transforms

from loopwright.observe.modules import traced
from loopwright.observe.sites import TORCH, kind_of, site
from loopwright.observe.swap import CodeSwap, Patch
from loopwright.observe.watch import around

if TYPE_CHECKING:
    from loopwright.observe.watch import Observer


def transform_points(observer: Observer) -> Iterator[Patch]:
    """One patch for each function that somebody listens to."""
    if observer.wanted("func_grad") or observer.wanted("mapped_grad"):
        yield CodeSwap(eager_transforms.grad_and_value_impl, _gradients(observer))
    if observer.wanted("jacobian"):
        for function in (eager_transforms._vjp_with_argnums, eager_transforms._jvp_with_argnums):
            yield CodeSwap(function, _jacobian(observer))
    if observer.wanted("functional_call"):
        yield CodeSwap(torch.nn.utils.stateless._functional_call, _functional_call(observer))


def _gradients(observer: Observer) -> Callable[[Any], Any]:
    """The outermost ``torch.func.grad``: by itself a ``func_grad``, under ``vmap`` a ``mapped_grad``."""
    alone = around(observer, "func_grad", through_torch=True)
    mapped = around(observer, "mapped_grad", through_torch=True)
    here = observer.here

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        by_itself, under_vmap = alone(original), mapped(original)

        def outermost(*args: Any) -> Any:
            if here.in_grad:
                return original(*args)
            hook = by_itself if not traced() else under_vmap if _maps_only() else original
            here.in_grad = True
            try:
                return hook(*args)
            finally:
                here.in_grad = False

        return outermost

    return make


def _maps_only() -> bool:
    """True under ``vmap`` alone, where no other transform and no tracing is around it."""
    kinds = {one.key() for one in torch._C._functorch.get_interpreter_stack() or ()}
    return kinds == {torch._C._functorch.TransformType.Vmap}


def _jacobian(observer: Observer) -> Callable[[Any], Any]:
    """The outermost of ``torch.func``'s functions that multiply by a Jacobian; the event has its name."""
    before = observer.handlers("before", "jacobian")
    after = observer.handlers("after", "jacobian")
    here = observer.here

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def outermost(*args: Any, **kwargs: Any) -> Any:
            where = None if here.in_grad or here.busy else site(1, through_torch=True)
            if where is None or torch.compiler.is_compiling():
                return original(*args, **kwargs)
            event = observer.event("jacobian", where, args[0], args, kwargs)
            event.name = _called()
            observer.tell(before, event)
            here.in_grad = True
            try:
                event.result = original(*args, **kwargs)
            finally:
                here.in_grad = False
                observer.tell(after, event)
            return event.result

        return outermost

    return make


def _called() -> str:
    """The outermost function of ``torch.func``'s above, by its frame: ``jacrev.<locals>.wrapper_fn``."""
    frame, found = sys._getframe(2), ""
    while frame is not None and kind_of(frame.f_code.co_filename) == TORCH:
        name = frame.f_code.co_qualname.partition(".")[0]
        if name != "vmap" and hasattr(torch.func, name):
            found = name
        frame = frame.f_back
    return found


def _functional_call(observer: Observer) -> Callable[[Any], Any]:
    """A module called with other parameters than its own; its inner calls are part of it."""
    here = observer.here
    make = around(observer, "functional_call", through_torch=True)

    def make_outermost(original: Callable[..., Any]) -> Callable[..., Any]:
        hook = make(original)

        def outermost(*args: Any, **kwargs: Any) -> Any:
            if traced() or here.depth or here.busy:
                return original(*args, **kwargs)
            here.depth = 1
            try:
                return hook(*args, **kwargs)
            finally:
                here.depth = 0

        return outermost

    return make_outermost
