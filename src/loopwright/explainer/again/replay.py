"""Runs a recorded step again: everything that it changes is put back to its beginning before, and back after.

The weights' contents are copied in and out; gradients and optimizer state are other tensors while a step is
run again, so the program's own are never touched. Everything else that the program can reach is put back by
``reach``. A step that would reach outside (files, sockets, processes, iterators) is not run.
"""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

import torch

from loopwright.explainer.again import slices
from loopwright.explainer.again.reach import LARGE, Noted, Reach, set_versions
from loopwright.explainer.again.slices import NotReplayedError
from loopwright.explainer.again.taken import Taken
from loopwright.explainer.effects import values
from loopwright.observe.sites import USER, kind_of, variables

COPIES = 3
"""Of everything that a step changes: its beginning, its end, and the one that a step is run on."""
SILENT = frozenset(
    (
        "open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.system", "subprocess.Popen",
        "socket.connect", "socket.sendto", "shutil.rmtree", "shutil.copyfile", "os.posix_spawn", "os.fork",
        "os.exec",
    )
)  # fmt: skip

_guarding = False
_hooked = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _guarding or event not in SILENT:
        return
    if event == "open" and isinstance(arguments[1], str) and not set("wax+") & set(arguments[1]):
        return
    if event == "open" and arguments[1] is None and not (arguments[2] or 0) & 3:
        return
    raise NotReplayedError(f"it reaches outside of the program ({event})")


class Enough(BaseException):
    """Raised where backward would begin, by a run that only wants the loss."""


class Beginning:
    """The state at the beginning of a turn.

    Args:
        recording: what is watched.
        frame: that the loop runs in.
        turn: which begins.
        number: of its loop.

    Raises:
        NotReplayedError: there is no room for copies, or what cannot be repeated.
    """

    def __init__(self, recording: Any, frame: Any, turn: Any, number: int):
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            raise NotReplayedError(
                "the step is one of several ranks', and one alone cannot be run again"
            )
        for thread in threading.enumerate():
            target = getattr(getattr(thread, "_target", None), "__code__", None)
            if (
                thread is not threading.current_thread()
                and target
                and kind_of(target.co_filename) == USER
            ):
                raise NotReplayedError("another thread of the program runs beside it")
        self.turn = turn
        self.number = number
        self.loop = turn.loop
        self.path = turn.record.source.path
        self.frame = frame
        self.globals = frame.f_globals
        self.reach = Reach(frame)
        if self.reach.compiled:
            raise NotReplayedError(
                f"`{self.reach.compiled}` is compiled, and running it changed would compile it anew"
            )
        modules = [module for _, ref in recording.state.roots if (module := ref()) is not None]
        self.modules = _unique([*modules, *self.reach.modules])
        self.parameters = _unique(
            [
                *(tensor for _, tensor in recording.state.alive()),
                *(p for module in self.modules for p in module.parameters()),
            ]
        )
        self.buffers = _unique([b for module in self.modules for b in module.buffers()])
        optimizers = [one for _, ref in recording.state.optimizers if (one := ref()) is not None]
        self.optimizers = _unique([*optimizers, *self.reach.optimizers])
        self.known = {id(one) for one in self.tensors()}
        others = [one for one in self.reach.tensors if id(one) not in self.known]
        self.large = [(one, one._version) for one in others if values.bytes_of(one) >= LARGE]
        self._fits(recording.budget, [one for one in others if values.bytes_of(one) < LARGE])
        self.noted = Noted(self.reach, self.known)
        with values.quiet():
            self.contents = [one.detach().clone() for one in self.tensors()]
            self.grads = [
                None if p.grad is None else p.grad.detach().clone() for p in self.parameters
            ]
            self.states = [_cloned(one.state) for one in self.optimizers]
            self.space = {
                name: _copied_leafless(value, self.known)
                for name, value in variables(frame).items()
                if not name.startswith("__")
            }
        self.flags = [p.requires_grad for p in self.parameters]
        self.scalers = [(one, _scaler_state(one)) for one in self.reach.scalers]
        self.seen_grads: list[Any] = []
        self.loss: float | None = None
        self.taken = Taken()

    def tensors(self) -> list[torch.Tensor]:
        """What a step changes in place."""
        return [*self.parameters, *self.buffers]

    def _fits(self, budget: int, others: list[torch.Tensor]) -> None:
        size = sum(values.bytes_of(one) for one in [*self.tensors(), *others])
        size += sum(values.bytes_of(p) for p in self.parameters)  # gradients
        size += sum(
            values.bytes_of(held)
            for one in self.optimizers
            for state in one.state.values()
            for held in (state.values() if isinstance(state, dict) else ())
            if isinstance(held, torch.Tensor)
        )
        if size * COPIES > budget:
            raise NotReplayedError(
                f"the copies for it would take {size * COPIES / 1e6:,.0f} MB, and the budget is "
                f"{budget / 1e6:,.0f} MB (--budget)"
            )

    def note_grads(self) -> None:
        """The gradients as a backward pass of the program left them."""
        with values.quiet():
            self.seen_grads = [
                None if p.grad is None else p.grad.detach().clone() for p in self.parameters
            ]


class Again:
    """The same step, to be run any number of times.

    Args:
        beginning: of the turn.
        visits: what ran in it.
        whole: all of the body up to the step's end, not only what the step is seen to need.
    """

    def __init__(self, beginning: Beginning, visits: list[Any], *, whole: bool = False):
        self.beginning = beginning
        body, names, self.left_out = slices.again(
            beginning.loop, beginning.path, visits, beginning.space, whole=whole
        )
        self.size = len(body)
        for name in sorted(beginning.reach.iterators & slices.used(body, beginning.path, visits)):
            raise NotReplayedError(f"it would take a further item from `{name}`")
        for tensor, version in beginning.large:
            if tensor._version != version:
                size = values.bytes_of(tensor) / 1e6
                raise NotReplayedError(f"it changes a tensor of {size:,.0f} MB in place")
        self.first_line = body[0].lineno
        self.function = slices.function(body, names, beginning.path, beginning.globals)
        self.names = names
        self.loss: float | None = None
        self.roots: list[torch.Tensor] = []
        self.grads: list[Any] = []
        self.to_loss = False

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Whatever happens inside, everything is as it was afterwards."""
        one = self.beginning
        tensors = one.tensors()
        with values.quiet():
            ends = [tensor.detach().clone() for tensor in tensors]
        versions = [tensor._version for tensor in tensors]
        grads = [p.grad for p in one.parameters]
        flags = [p.requires_grad for p in one.parameters]
        states = [optimizer.state for optimizer in one.optimizers]
        scalers = [
            {name: vars(scaler)[name] for name in SCALED if name in vars(scaler)}
            for scaler, _ in one.scalers
        ]
        reach = Reach(one.frame)
        reach.add(one.reach)
        noted = Noted(reach, one.known)
        try:
            with _silence(), self._hooks():
                yield
        finally:
            with values.quiet():
                for tensor, end in zip(tensors, ends, strict=True):
                    tensor.detach().copy_(end)
            set_versions(tensors, versions)
            _require(one.parameters, flags)
            for parameter, grad in zip(one.parameters, grads, strict=True):
                parameter.grad = grad
            for optimizer, state in zip(one.optimizers, states, strict=True):
                optimizer.state = state
            for (scaler, _), state in zip(one.scalers, scalers, strict=True):
                vars(scaler).update(state)
            noted.put_back()

    def begin(self) -> None:
        """The state of the turn's beginning."""
        one = self.beginning
        one.noted.put_back()
        with values.quiet():
            for tensor, content in zip(one.tensors(), one.contents, strict=True):
                tensor.detach().copy_(content)
        _require(one.parameters, one.flags)
        for parameter, grad in zip(one.parameters, one.grads, strict=True):
            parameter.grad = None if grad is None else grad.clone()
        for optimizer, state in zip(one.optimizers, one.states, strict=True):
            optimizer.state = _cloned(state)
        for scaler, state in one.scalers:
            vars(scaler).update(_cloned(state))

    def rewind(self) -> None:
        """As at the turn's beginning, except for weights, gradients and what optimizers remember of them."""
        optimizers = self.beginning.optimizers
        states = [one.state for one in optimizers]
        self.beginning.noted.put_back()
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.state = state

    def run(self, *, to_loss: bool = False) -> dict[str, Any]:
        """Run the step; with ``to_loss`` up to where backward would begin."""
        self.to_loss = to_loss
        self.loss = None
        self.roots, self.grads = [], []
        space = self.beginning.space
        known = self.beginning.known
        with values.quiet():
            given = {name: _copied_leafless(space[name], known) for name in self.names}
        try:
            return self.function(**given)
        except Enough:
            return {}

    @contextlib.contextmanager
    def _hooks(self) -> Iterator[None]:
        """Backward passes report here."""
        method, function = torch.Tensor.backward, torch.autograd.backward
        scale = torch.amp.GradScaler.scale
        scales: dict[int, float] = {}

        def scaled(scaler: torch.amp.GradScaler, outputs: Any) -> Any:
            found = scale(scaler, outputs)
            if isinstance(found, torch.Tensor):
                scales.clear()
                scales[id(found)] = float(scaler.get_scale())
            return found

        def report(root: Any) -> None:
            roots = [root] if isinstance(root, torch.Tensor) else list(root)
            first = roots[0]
            if self.loss is None and first.numel() == 1:
                self.loss = float(first.detach()) / scales.get(id(first), 1.0)
            self.roots += roots
            if self.to_loss:
                raise Enough

        def keep() -> None:
            with values.quiet():
                self.grads = [
                    None if p.grad is None else p.grad.detach().clone()
                    for p in self.beginning.parameters
                ]

        def backward(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            report(tensor)
            method(tensor, *args, **kwargs)
            keep()

        def autograd_backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            if sys._getframe(1).f_code.co_filename == method.__code__.co_filename:
                function(tensors, *args, **kwargs)
                return
            report(tensors)
            function(tensors, *args, **kwargs)
            keep()

        torch.Tensor.backward = backward  # type: ignore[method-assign,assignment]
        torch.autograd.backward = autograd_backward  # type: ignore[assignment]
        torch.amp.GradScaler.scale = scaled  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            torch.Tensor.backward = method  # type: ignore[method-assign]
            torch.autograd.backward = function
            torch.amp.GradScaler.scale = scale  # type: ignore[method-assign]


def _require(parameters: list[torch.Tensor], flags: list[bool]) -> None:
    """Which of them get gradients."""
    for parameter, flag in zip(parameters, flags, strict=True):
        if parameter.is_leaf and parameter.requires_grad != flag:
            parameter.requires_grad_(flag)


def _unique(found: list[Any]) -> list[Any]:
    return list({id(one): one for one in found}.values())


def _copied_leafless(value: Any, known: set[int]) -> Any:
    """Tensors that are data are copied, so that a step may write into them; everything else is itself."""
    if isinstance(value, torch.Tensor):
        data = id(value) not in known and not value.requires_grad and type(value) is torch.Tensor
        return value.clone() if data and values.bytes_of(value) < 1 << 25 else value
    if type(value) in (list, tuple):
        if 0 < len(value) <= 16 and any(isinstance(one, torch.Tensor) for one in value):
            return type(value)(_copied_leafless(one, known) for one in value)
    elif (
        type(value) is dict
        and 0 < len(value) <= 32
        and any(isinstance(one, torch.Tensor) for one in value.values())
    ):
        return {key: _copied_leafless(one, known) for key, one in value.items()}
    return value


def _cloned(value: Any) -> Any:
    """Containers and tensors copied all the way down; parameters, as keys, are themselves."""
    if isinstance(value, torch.Tensor):
        with values.quiet():
            return value.detach().clone()
    if isinstance(value, defaultdict):
        return defaultdict(value.default_factory, {key: _cloned(one) for key, one in value.items()})
    if isinstance(value, dict):
        return {key: _cloned(one) for key, one in value.items()}
    return type(value)(map(_cloned, value)) if type(value) in (list, tuple, deque) else value


SCALED = ("_scale", "_growth_tracker", "_per_optimizer_states")


def _scaler_state(scaler: Any) -> dict[str, Any]:
    """Of one that is enabled; a disabled one has none."""
    return {name: _cloned(vars(scaler)[name]) for name in SCALED if name in vars(scaler)}


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing is printed or written; what tries to reach outside is refused."""
    global _guarding, _hooked
    if not _hooked:
        _hooked = True
        sys.addaudithook(_audit)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        _guarding = True
        try:
            yield
        finally:
            _guarding = False
