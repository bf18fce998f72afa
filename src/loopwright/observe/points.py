"""The functions of torch that are worth watching, and which kind of event each one is.

A table for what is plain, and three special ones: modules (``module_calls``), the optimizers' step (torch
has global hooks for it), and methods written in C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.utils.data
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from loopwright.events import Event
from loopwright.observe.collectives import collective_points
from loopwright.observe.graph import hooks_noted
from loopwright.observe.modules import module_calls, traced
from loopwright.observe.seeds import seed_points
from loopwright.observe.sites import site
from loopwright.observe.swap import AttributePatch, CodeSwap, Patch
from loopwright.observe.transforms import transform_points
from loopwright.observe.warned import Warned
from loopwright.observe.watch import PER_STEP, TICKS, around

if TYPE_CHECKING:
    from loopwright.observe.watch import Observer

LOSSES = (
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "kl_div",
    "gaussian_nll_loss",
    "poisson_nll_loss",
    "ctc_loss",
    "cosine_embedding_loss",
    "margin_ranking_loss",
    "triplet_margin_loss",
    "multilabel_soft_margin_loss",
    "multi_margin_loss",
    "soft_margin_loss",
    "hinge_embedding_loss",
)
DROPOUTS = (
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
)
NUMBERS = ("item", "tolist", "__float__", "__int__", "__bool__", "numpy")
"""Methods that bring a tensor's value to the host."""
MOVES = ("to", "cuda", "cpu", "float", "half", "bfloat16", "double")
"""Methods, of tensors and of modules, that may change the device or the dtype."""
WRITES = {"copy_": "write", "lerp_": "write", "mul_": "multiply", "add_": "add"}
"""Methods with which weights are copied and averaged by hand, and the kind of event of each."""


def install_points(observer: Observer) -> Iterator[Patch]:
    """Patch what somebody listens to, one patch at a time."""
    own_zero_grad = _OwnZeroGrad(observer)
    if observer.wanted("zero_grad"):
        observer.listeners.append(own_zero_grad)
    for kind, through_torch, functions in _table():
        if observer.wanted(kind):
            for function in functions:
                ticks = function in (torch.autograd.backward, torch.autograd.grad)
                hook = around(observer, kind, through_torch=through_torch, ticks=ticks)
                # Tensor.backward calls autograd.backward, which ticks.
                rests = kind in PER_STEP - TICKS or function is torch.Tensor.backward
                yield CodeSwap(function, hook, rests=rests)
    yield from transform_points(observer)
    if observer.wanted("forward"):
        yield module_calls(observer)
    if observer.wanted("loss"):
        for name in LOSSES:
            yield CodeSwap(getattr(torch.nn.functional, name), _loss(observer), rests=True)
    if observer.wanted("clip"):
        for function in (torch.nn.utils.clip_grad_norm_, torch.nn.utils.clip_grad_value_):
            yield CodeSwap(function, _clip(observer), rests=True)
    if observer.wanted("dropout"):
        for name in DROPOUTS:
            yield CodeSwap(getattr(torch.nn.functional, name), _dropout(observer), rests=True)
    if observer.wanted("step"):
        yield from _step(observer)
    if observer.wanted("zero_grad"):
        yield from own_zero_grad.existing()
    if observer.wanted("fetch"):
        iterator = torch.utils.data.dataloader._BaseDataLoaderIter
        yield CodeSwap(iterator.__next__, _fetch(observer))
    if observer.wanted("item"):
        for name in NUMBERS:
            yield AttributePatch(torch.Tensor, name, _method(observer, "item", name), rests=True)
    if observer.wanted("format"):
        yield AttributePatch(torch.Tensor, "__format__", _format(observer), rests=True)
    for name, kind in WRITES.items():
        if observer.wanted(kind):
            yield AttributePatch(torch.Tensor, name, _method(observer, kind, name), rests=True)
    yield from collective_points(observer)
    yield from seed_points(observer)
    if observer.wanted("transfer"):
        for name in MOVES:
            hook = _method(observer, "transfer", name)
            yield AttributePatch(torch.Tensor, name, hook, rests=True)
            yield CodeSwap(getattr(torch.nn.Module, name), around(observer, "transfer"), rests=True)
    yield from hooks_noted()
    yield Warned()


def _table() -> Iterator[tuple[str, bool, list[Callable[..., Any]]]]:
    """Kind, whether calls made by torch count too, functions."""
    nn = torch.nn
    scaler = torch.amp.GradScaler
    yield "backward", False, [torch.Tensor.backward, torch.autograd.backward]
    yield "grad", False, [torch.autograd.grad]
    yield "zero_grad", False, [Optimizer.zero_grad, nn.Module.zero_grad]
    yield "optimizer", True, [Optimizer.__init__]
    yield "param_group", False, [Optimizer.add_param_group]  # without the calls that __init__ makes
    yield "mode", False, [nn.Module.train, nn.Module.eval]
    yield "module", True, [nn.Module.__init__]
    yield "init", False, [nn.init.constant_, nn.init.zeros_, nn.init.ones_]
    yield "copied", True, [nn.Module.__setstate__]
    yield "state_dict", False, [nn.Module.state_dict]
    yield "load_state_dict", False, [nn.Module.load_state_dict]
    yield "load_optimizer", True, [Optimizer.load_state_dict]
    yield "optimizer_state", False, [Optimizer.state_dict]
    yield "scale", False, [scaler.scale]
    yield "unscale", False, [scaler.unscale_]
    yield "scaler_step", False, [scaler.step]
    yield "epoch", False, [torch.utils.data.DataLoader.__iter__]
    yield "scheduler", True, _methods(LRScheduler, "__init__")
    yield "schedule", False, _methods(LRScheduler, "step")
    yield "seed", False, [torch.manual_seed]
    yield "generator_state", True, [torch.random.set_rng_state]  # fork_rng calls it
    yield "load", False, [torch.serialization.load]
    yield "save", False, [torch.serialization.save]
    yield "wrap", True, [DistributedDataParallel.__init__]


def _methods(base: type, name: str) -> list[Callable[..., Any]]:
    """``name`` of a class of torch's and of every subclass of torch's that has its own."""
    classes = [base]
    for one in classes:
        classes += [sub for sub in one.__subclasses__() if sub.__module__.startswith("torch.")]
    return [vars(one)[name] for one in dict.fromkeys(classes) if name in vars(one)]


def _loss(observer: Observer) -> Callable[[Any], Any]:
    """The functional losses, also when a criterion of torch.nn calls them; one event for nested ones."""
    before = observer.handlers("before", "loss")
    after = observer.handlers("after", "loss")
    here = observer.here
    compiling = torch.compiler.is_compiling

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*args: Any, **kwargs: Any) -> Any:
            if compiling() or here.busy or here.in_loss or observer.resting or traced():
                return original(*args, **kwargs)
            where = site(2, through_torch=True)
            if where is None:
                return original(*args, **kwargs)
            event = observer.event("loss", where, original.__name__, args, kwargs)
            if before:
                observer.tell(before, event)
            here.in_loss = True
            try:
                event.result = original(*args, **kwargs)
            except BaseException:  # the program's own, a Ctrl-C too: noted, and passed on
                event.failed = True
                raise
            finally:
                here.in_loss = False
            observer.tell(after, event)
            return event.result

        return hook

    return make


def _clip(observer: Observer) -> Callable[[Any], Any]:
    """Clipping takes an iterable, often a generator: listeners must be able to read it too."""
    make = around(observer, "clip", depth=3, through_torch=True)

    def make_with_list(original: Callable[..., Any]) -> Callable[..., Any]:
        hook = make(original)

        def with_list(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(parameters, (torch.Tensor, list, tuple)):
                # A spent iterator goes on as it is: torch warns of an empty generator, and of no empty list.
                parameters = list(parameters) or parameters
            return hook(parameters, *args, **kwargs)

        return with_list

    return make_with_list


def _dropout(observer: Observer) -> Callable[[Any], Any]:
    """Functional dropouts, only inside a forward whose inner calls are being recorded."""
    after = observer.handlers("after", "dropout")
    here = observer.here
    compiling = torch.compiler.is_compiling

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*args: Any, **kwargs: Any) -> Any:
            if compiling() or here.inner is None or here.busy:
                return original(*args, **kwargs)
            where = site(2, through_torch=True)
            direct = site(2)
            result = original(*args, **kwargs)
            if where is not None:
                event = observer.event("dropout", where, original.__name__, args, kwargs)
                event.result = direct is not None
                observer.tell(after, event)
            return result

        return hook

    return make


def _fetch(observer: Observer) -> Callable[[Any], Any]:
    """A batch; the end of an epoch is an event even while the observer rests."""
    make = around(observer, "fetch", through_torch=True, depth=3)
    after = observer.handlers("after", "fetch")

    def make_with_end(original: Callable[..., Any]) -> Callable[..., Any]:
        hook = make(original)

        def with_end(iterator: Any) -> Any:
            if not observer.resting:
                return hook(iterator)
            try:
                return original(iterator)
            except StopIteration:
                where = site(2, through_torch=True)
                if where is not None and not observer.here.busy:
                    event = observer.event("fetch", where, iterator, (iterator,), {})
                    event.failed = True
                    observer.tell(after, event)
                raise

        return with_end

    return make_with_end


class _HookHandle:
    def __init__(self, handle: Any):
        self.handle = handle

    def restore(self) -> None:
        self.handle.remove()


def _step(observer: Observer) -> Iterator[Patch]:
    """The optimizers' step, through torch's own global hooks; a closure's events come in between."""
    before = observer.handlers("before", "step")
    after = observer.handlers("after", "step")
    here = observer.here
    tracing = torch.compiler.is_dynamo_compiling
    uncounted = [one.step_unseen for one in observer.listeners if hasattr(one, "step_unseen")]
    total = 0

    def pre(optimizer: Any, args: Any, kwargs: Any) -> None:
        if tracing() or observer.resting or here.busy:
            return
        where = site(1, through_torch=True)
        if where is None:
            return
        here.in_step += 1
        observer.tell(before, observer.event("step", where, optimizer, args, kwargs))

    def post(optimizer: Any, args: Any, kwargs: Any) -> None:
        nonlocal total
        if tracing():
            return
        if observer.resting:
            total += 1
            if here.in_step:  # it fell asleep inside: the step has been told
                here.in_step = 0
            else:
                for one in uncounted:
                    one(optimizer)
            observer.stepped(total)
            return
        if here.busy:
            return
        where = site(1, through_torch=True)
        if where is None:
            return
        here.in_step = max(0, here.in_step - 1)
        total += 1
        observer.tell(after, Event("step", where, observer.number, optimizer, args, kwargs))
        observer.stepped(total)

    yield _HookHandle(register_optimizer_step_pre_hook(pre))
    yield _HookHandle(register_optimizer_step_post_hook(post))


class _OwnZeroGrad:
    """Optimizers with a ``zero_grad`` of their own: those there are, and later ones."""

    def __init__(self, observer: Observer):
        self.observer = observer
        self.seen: set[type] = {Optimizer}

    def existing(self) -> Iterator[Patch]:
        """Patches for the classes that exist."""
        pending = list(Optimizer.__subclasses__())
        while pending:
            cls = pending.pop()
            yield from self.patches(cls)
            pending += cls.__subclasses__()

    def patches(self, cls: type) -> Iterator[Patch]:
        """Patches for a class and its parents."""
        for one in cls.__mro__:
            if one not in self.seen and issubclass(one, Optimizer):
                self.seen.add(one)
                if "zero_grad" in vars(one):
                    hook = around(self.observer, "zero_grad", depth=1)
                    yield AttributePatch(one, "zero_grad", hook, rests=True)

    def after_optimizer(self, event: Event) -> None:
        """An optimizer was made: look at its class."""
        for patch in self.patches(type(event.subject)):
            self.observer.add(patch)


def _format(observer: Observer) -> Callable[[Any], Any]:
    """``f"{loss:.4f}"``, which reads a scalar's number inside torch; other tensors are shown, not read."""
    hooked = _method(observer, "format", "__format__", depth=2)

    def make(original: Any) -> Any:
        read = hooked(original)

        def hook(self: Any, format_spec: str) -> str:
            scalar = type(self) is torch.Tensor and self.dim() == 0
            return (read if scalar else original)(self, format_spec)

        return hook

    return make


def _method(observer: Observer, kind: str, name: str, depth: int = 1) -> Callable[[Any], Any]:
    """``Tensor.item`` and its like: attributes of ``torch.Tensor`` that hide the C methods."""
    before = observer.handlers("before", kind)
    after = observer.handlers("after", kind)
    here = observer.here
    compiling = torch.compiler.is_compiling
    outside = (
        kind not in WRITES.values()
    )  # an average may be kept inside forward: momentum contrast

    def make(original: Any) -> Any:
        def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
            if compiling() or observer.resting or here.busy or (here.depth and outside):
                return original(self, *args, **kwargs)
            where = site(depth)
            if where is None:
                return original(self, *args, **kwargs)
            event = observer.event(kind, where, self, args, kwargs)
            event.name = name
            if before:
                observer.tell(before, event)
            event.result = original(self, *args, **kwargs)
            observer.tell(after, event)
            return event.result

        hook.__name__, hook.__qualname__ = name, f"Tensor.{name}"
        hook.__doc__ = original.__doc__
        return hook

    return make
