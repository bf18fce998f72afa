"""The functions of torch that are worth watching, and which kind of event each one is.

A table for what is plain, and three special ones: modules (only the outermost call is an event), the
optimizers' step (torch has global hooks for it), and methods written in C.
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
from loopwright.observe import graph
from loopwright.observe.collectives import collective_points
from loopwright.observe.operations import Operations
from loopwright.observe.sites import Site, site
from loopwright.observe.swap import AttributePatch, CodeSwap, Patch, Straight, plain_function
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
                hook = around(observer, kind, through_torch=through_torch)
                yield CodeSwap(function, hook, rests=kind in PER_STEP - TICKS)
    if observer.wanted("forward"):
        call = torch.nn.Module.__call__
        yield CodeSwap(call, _forward(observer), _straight(observer, call))
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
    for name, kind in WRITES.items():
        if observer.wanted(kind):
            yield AttributePatch(torch.Tensor, name, _method(observer, kind, name), rests=True)
    yield from collective_points(observer)
    if observer.wanted("transfer"):
        for name in MOVES:
            hook = _method(observer, "transfer", name)
            yield AttributePatch(torch.Tensor, name, hook, rests=True)
            yield CodeSwap(getattr(torch.nn.Module, name), around(observer, "transfer"), rests=True)


def _table() -> Iterator[tuple[str, bool, list[Callable[..., Any]]]]:
    """Kind, whether calls made by torch count too, functions."""
    nn = torch.nn
    scaler = torch.amp.GradScaler
    yield "backward", False, [torch.Tensor.backward, torch.autograd.backward]
    yield "grad", False, [torch.autograd.grad]
    yield "zero_grad", False, [Optimizer.zero_grad, nn.Module.zero_grad]
    yield "optimizer", True, [Optimizer.__init__]
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
    yield "load", False, [torch.serialization.load]
    yield "save", False, [torch.serialization.save]
    yield "wrap", True, [DistributedDataParallel.__init__]


def _methods(base: type, name: str) -> list[Callable[..., Any]]:
    """``name`` of a class of torch's and of every subclass of torch's that has its own."""
    classes = [base]
    for one in classes:
        classes += [sub for sub in one.__subclasses__() if sub.__module__.startswith("torch.")]
    return [vars(one)[name] for one in dict.fromkeys(classes) if name in vars(one)]


def traced() -> bool:
    """True inside torch.func transforms and jit tracing, where tensors are not what they seem."""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._get_tracing_state() is not None
    )


def sees_evaluation(observer: Observer) -> bool:
    """A forward without gradients, after forwards with them, opens the observer's eyes now and then."""
    if torch.is_grad_enabled():
        return False
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
        if first is not None:
            self.elements, self.needs = first.numel(), first.requires_grad
            self.pointer, self.made_by = graph.storage_pointer(first), graph.made_by(first)

    def left(self, result: Any) -> None:
        """Note the result."""
        if isinstance(result, (tuple, list)) and result:
            result = result[0]
        if isinstance(result, torch.Tensor):
            self.result_needs, self.result_made_by = result.requires_grad, graph.made_by(result)


def _straight(observer: Observer, call: Any) -> Straight | None:
    """Inner calls that nobody records, nearly all: 0.21 µs each, and 0.49 through the hook."""
    if plain_function(call).__code__.co_names != ("_compiled_call_impl", "_call_impl"):
        return None  # another torch's, of which we do not know what it does
    return Straight(
        "not compiling() and here.depth and here.inner is None",
        "(self._compiled_call_impl or self._call_impl)(*args, **kwargs)",
        {"compiling": torch.compiler.is_compiling, "here": observer.here},
    )


def _forward(observer: Observer) -> Callable[[Any], Any]:
    """Modules: the outermost call of a thread is an event, inner ones are only counted in.

    While a listener has set ``here.inner`` to a list, inner calls are appended to it as ``InnerCall``;
    otherwise they do not come here at all (``_straight``).
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
                result = original(self, *args, **kwargs)
                call.left(result)
                return result
            if here.busy:
                return original(self, *args, **kwargs)
            if self._parameters or self._modules:  # a transform is called for every sample
                observer.tick()
            if observer.resting and not sees_evaluation(observer):
                # Inner calls are no ticks, or a model of 52 modules would keep us awake.
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
            event = observer.event("forward", where, self, args, kwargs)
            observer.tell(before, event)
            looks_inside = here.inner is not None and here.inner_call is None
            looks_inside = looks_inside and operations.begin()
            here.depth = 1
            try:
                event.result = original(self, *args, **kwargs)
            except BaseException:  # the program's, whatever it is, and passed on
                event.failed = True
                raise
            finally:
                here.depth = 0
                if looks_inside:
                    operations.end()
                observer.tell(after, event)
                here.inner = here.operations = None
            return event.result

        return hook

    return make


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
                parameters = list(parameters)
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
    compiling = torch.compiler.is_compiling
    uncounted = [one.step_unseen for one in observer.listeners if hasattr(one, "step_unseen")]
    total = 0

    def pre(optimizer: Any, args: Any, kwargs: Any) -> None:
        if compiling() or here.busy:
            return
        if observer.resting:
            for one in uncounted:
                one(optimizer)
            return
        where = site(1, through_torch=True)
        if where is None:
            return
        here.in_step += 1
        observer.tell(before, observer.event("step", where, optimizer, args, kwargs))

    def post(optimizer: Any, args: Any, kwargs: Any) -> None:
        nonlocal total
        if compiling() or here.busy:
            return
        if observer.resting:
            total += 1
            observer.stepped(total)
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


def _method(observer: Observer, kind: str, name: str) -> Callable[[Any], Any]:
    """``Tensor.item`` and its like: attributes of ``torch.Tensor`` that hide the C methods."""
    before = observer.handlers("before", kind)
    after = observer.handlers("after", kind)
    here = observer.here
    compiling = torch.compiler.is_compiling

    def make(original: Any) -> Any:
        def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
            if compiling() or observer.resting or here.busy or here.depth:
                return original(self, *args, **kwargs)
            where = site(1)
            if where is None:
                return original(self, *args, **kwargs)
            event = observer.event(kind, where, self, args, kwargs)
            if before:
                observer.tell(before, event)
            event.result = original(self, *args, **kwargs)
            observer.tell(after, event)
            return event.result

        hook.__name__, hook.__qualname__ = name, f"Tensor.{name}"
        hook.__doc__ = original.__doc__
        return hook

    return make
