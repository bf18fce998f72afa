"""Calls of modules: the outermost one of a thread is an event, inner ones are recorded only on demand.

``nn.Module.__call__`` is called dozens of times a step, and nearly always for an inner module. So what
lets these through stands in the exchanged code itself, and is another text while the observer rests: calls
with gradients go straight through then, outermost ones too, and training ticks by its backward.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from loopwright.observe import graph
from loopwright.observe.operations import Operations
from loopwright.observe.sites import Site, site
from loopwright.observe.swap import CodeSwap, Straight, plain_function

if TYPE_CHECKING:
    from loopwright.observe.watch import Observer


_MODULES = torch.nn.Module._call_impl.__code__.co_filename


def traced() -> bool:
    """True inside torch.func transforms and jit tracing, where tensors are not what they seem.

    Who asks functorch for its stack makes one, and from then on every node of a backward pass copies it, also
    when nobody asks any more: 6 to 10 µs a step of 24 modules. This question leaves nothing behind.
    """
    return torch._C._are_functorch_transforms_active() or torch._C._get_tracing_state() is not None


def inside_another() -> bool:
    """Whether the call that the caller hooks was made inside another module's, by the frames above it."""
    frame = sys._getframe(2).f_back
    while frame is not None:
        code = frame.f_code
        if (
            code.co_filename == _MODULES and "_call_impl" in code.co_name
        ):  # Dynamo prolongs the name
            return True
        frame = frame.f_back
    return False


def sees_evaluation(observer: Observer) -> bool:
    """A forward without gradients opens the observer's eyes now and then."""
    observer.evaluations += 1
    if observer.evaluations & (observer.evaluations - 1):
        return False
    observer.wake()
    return True


class InnerCall:
    """A call of a module inside another one's: no tensor is kept, only what it was like."""

    __slots__ = (
        "direct",
        "elements",
        "given",
        "grad",
        "made_by",
        "module",
        "needs",
        "pointer",
        "result_made_by",
        "result_needs",
        "site",
        "training",
    )

    def __init__(self, module: Any, args: tuple[Any, ...], where: Site | None = None):
        self.site = where
        """The program's line that called it, also through a container of torch's."""
        self.direct = False
        first = next((one for one in args if isinstance(one, torch.Tensor)), None)
        self.module = module
        self.training = module.training
        self.grad = torch.is_grad_enabled()
        self.elements = self.pointer = self.made_by = self.result_made_by = 0
        self.needs = self.result_needs = False
        self.given: tuple[int, ...] = ()
        """The shape of the first tensor that it was given."""
        if first is not None:
            self.elements, self.needs = first.numel(), first.requires_grad
            self.given = tuple(first.shape)
            self.pointer, self.made_by = graph.storage_pointer(first), graph.made_by(first)

    def left(self, result: Any) -> None:
        """Note the result."""
        if isinstance(result, (tuple, list)) and result:
            result = result[0]
        if isinstance(result, torch.Tensor):
            self.result_needs, self.result_made_by = result.requires_grad, graph.made_by(result)


class Places:
    """Which modules were called inside another one's forward, and never outermost; ids of live ones."""

    def __init__(self) -> None:
        self.inside: set[int] = set()
        self._outside: set[int] = set()
        self._refs: dict[int, weakref.ref[Any]] = {}

    def called_inside(self, module: Any) -> None:
        """Inside another one's."""
        if id(module) not in self._refs:
            self._keep(module)
            self.inside.add(id(module))

    def called_outside(self, module: Any) -> None:
        """As the outermost."""
        key = id(module)
        if key not in self._outside:
            if key not in self._refs:
                self._keep(module)
            self._outside.add(key)
            self.inside.discard(key)

    def _keep(self, module: Any) -> None:
        key = id(module)

        def gone(_: Any) -> None:
            del self._refs[key]
            self.inside.discard(key)
            self._outside.discard(key)

        self._refs[key] = weakref.ref(module, gone)


def module_calls(observer: Observer) -> CodeSwap:
    """The hook of ``nn.Module.__call__``."""
    call = torch.nn.Module.__call__
    places = Places()
    hook = _forward(observer, places)
    if plain_function(call).__code__.co_names != ("_compiled_call_impl", "_call_impl"):
        return CodeSwap(call, hook)  # another torch's, of which we do not know what it does
    result = "(self._compiled_call_impl or self._call_impl)(*args, **kwargs)"
    awake = Straight(  # 0.21 µs a call, and 0.49 through the hook
        "not compiling() and here.depth and here.inner is None",
        result,
        {"compiling": torch.compiler.is_compiling, "here": observer.here},
    )
    # At rest the question whether gradients are on is all that a step of training pays, 0.03 µs a call.
    # Of the two that ask whether something compiles Dynamo's own is the cheaper one; it must come before
    # the set, at which Dynamo would look.
    resting = Straight(
        "grads() or not tracing() and id(self) in inside",
        result,
        {
            "grads": torch.is_grad_enabled,
            "tracing": torch.compiler.is_dynamo_compiling,
            "inside": places.inside,
        },
    )
    return CodeSwap(call, hook, awake, resting)


def _forward(observer: Observer, places: Places) -> Callable[[Any], Any]:
    """The outermost call of a thread is an event, inner ones are only counted in.

    While a listener has set ``here.inner`` to a list, inner calls are appended to it as ``InnerCall``;
    otherwise they do not come here at all. The observer does not fall asleep meanwhile.
    """
    before = observer.handlers("before", "forward")
    after = observer.handlers("after", "forward")
    here = observer.here
    operations = Operations(observer)
    compiling = torch.compiler.is_compiling

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
            if compiling():
                return original(self, *args, **kwargs)
            if here.depth:
                inner = here.inner
                if inner is None:
                    return original(self, *args, **kwargs)
                if here.inner_call is None:
                    direct = site(2)
                    call = InnerCall(self, args, direct or site(2, through_torch=True))
                    call.direct = direct is not None
                else:
                    call = here.inner_call(self, args)
                inner.append(call)
                places.called_inside(self)
                result = original(self, *args, **kwargs)
                call.left(result)
                return result
            if here.busy:
                return original(self, *args, **kwargs)
            if observer.resting and torch.is_grad_enabled():  # where compiled code keeps hooks in
                return original(self, *args, **kwargs)
            if observer.resting or here.wakings != observer.wakings:
                # Calls that began at rest have left no depth: their inner ones are not outermost.
                if inside_another():
                    places.called_inside(self)
                    return original(self, *args, **kwargs)
                here.wakings = observer.wakings
            if self._parameters or self._modules:  # a transform is called for every sample
                observer.tick()
            if observer.resting and not sees_evaluation(observer):
                # Inner calls are no ticks, or an evaluation of 52 modules would keep us awake.
                here.depth = 1
                try:
                    return original(self, *args, **kwargs)
                finally:
                    here.depth = 0
            if traced():
                return original(self, *args, **kwargs)
            where = site(2)
            if where is None:
                return original(self, *args, **kwargs)
            places.called_outside(self)
            event = observer.event("forward", where, self, args, kwargs)
            observer.tell(before, event)
            looks_inside = here.inner is not None and here.inner_call is None
            looks_inside = looks_inside and operations.begin()
            here.depth = 1
            if here.inner is not None:
                observer.recording.add(threading.get_ident())
            try:
                event.result = original(self, *args, **kwargs)
            except BaseException:  # the program's, whatever it is, and passed on
                event.failed = True
                raise
            finally:
                here.depth = 0
                observer.recording.discard(threading.get_ident())
                if looks_inside:
                    operations.end()
                observer.tell(after, event)
                here.inner = here.operations = None
            return event.result

        return hook

    return make
