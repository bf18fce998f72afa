"""The calls of the run's models in the current turn, and their replay: which module made the first nan?

A forward hook on each root module notes what it was called with (1.3 µs) and a few numbers of what came
out. When a loss or a gradient is not finite, the calls are made again from the generators and buffers of
the turn's beginning, with hooks on every module that look at what comes out.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from loopwright.train.data.batches import tensors
from loopwright.train.process import randomness
from loopwright.train.state.boundary import Boundary

CALLS = 16
"""Calls of one turn that are noted; a model that is called more often is replayed up to there."""
SAMPLE = 8
"""Elements of an output that are kept, to see whether the replay gives the same."""
SMALL = 4096
"""Elements up to which all are, in the output's own memory: 1 µs, a copy of the first ones 7."""


@dataclass(slots=True)
class Found:
    """What a replay showed: a sentence, and the rows of the batch in which it happened."""

    text: str
    rows: list[int] = field(default_factory=list)


class _Call(NamedTuple):
    module: nn.Module
    args: Any
    kwargs: Any
    sample: list[Tensor]
    versions: list[int]  # the sample shares a small output's memory: whether it was written to
    output: Any  # a weak reference where it is one tensor

    def is_known(self) -> bool:
        """Whether ``sample`` is what the call gave: nothing was written there since."""
        return self.versions == [tensor._version for tensor in self.sample]


@dataclass(slots=True)
class _OutputOf:
    """Stands for an argument that was an earlier call's output; holding it would hold its graph."""

    call: int


class _Gone:
    """Stands for an argument that carried a graph and is not held."""


class _Note:
    """The hook. In a pickle or a deep copy of the model it is a function that does nothing."""

    def __init__(self, recall: Recall):
        self._recall = recall

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        calls = self._recall.calls
        if self._recall.listens and len(calls) < CALLS and torch.is_grad_enabled():
            held, more = args, kwargs
            if kwargs or len(args) != 1 or type(args[0]) is not Tensor or args[0].grad_fn:
                held, more = _map(args, self._hold), _map(kwargs, self._hold)
            out = weakref.ref(output) if isinstance(output, Tensor) else None
            sample = _sample(output)
            versions = [tensor._version for tensor in sample]
            calls.append(_Call(module, held, more, sample, versions, out))

    def _hold(self, tensor: Tensor) -> Any:
        if tensor.grad_fn is None:
            return tensor
        for number, call in enumerate(self._recall.calls):
            if call.output is not None and call.output() is tensor:
                return _OutputOf(number)
        return _Gone()

    def __reduce__(self) -> tuple[Any, ...]:
        # A hook may return None whatever it is given, and this method of the standard library does:
        # the file can be read where there is no Loopwright.
        return getattr, (contextlib.nullcontext(), "__exit__")

    def __deepcopy__(self, memo: Any) -> Any:
        return contextlib.nullcontext().__exit__


class Recall:
    """Notes the calls of one turn."""

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        self.listens = True
        self._handles: list[Any] = []

    def watch(self, models: dict[str, nn.Module]) -> None:
        """Start noting; compiled and scripted modules, which would take the hook in, are left out."""
        if self._handles:
            return
        for module in models.values():
            compiled = module._compiled_call_impl is not None or hasattr(module, "_orig_mod")
            if not compiled and not isinstance(module, torch.jit.ScriptModule):
                hook = module.register_forward_hook(_Note(self), with_kwargs=True)
                self._handles.append(hook)

    def release(self) -> None:
        """Stop noting."""
        for handle in self._handles:
            handle.remove()
        self._handles, self.calls = [], []

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Note nothing inside: what is recorded there would be replayed with the rest."""
        self.listens = False
        try:
            yield
        finally:
            self.listens = True

    def first_nonfinite(self, boundary: Boundary) -> Found | None:
        """Say which module's output was the first that is not finite; None where no call was noted.

        Leaves no trace: generators, buffers, modes and gradients are as before.
        """
        if not self.calls:
            return None
        with (
            randomness.fork(boundary.device),
            boundary.buffers.as_noted(),
            torch.no_grad(),
            torch.autocast(boundary.device.type, enabled=torch.is_autocast_enabled()),
        ):
            randomness.restore(boundary.body_random, boundary.device)
            return _replay(self.calls)


def _replay(calls: list[_Call]) -> Found:
    outputs: list[Any] = []
    for call in calls:
        lost = []

        def given(part: Any, lost: list[Any] = lost) -> Any:
            if isinstance(part, _Gone):
                lost.append(part)
            return outputs[part.call] if isinstance(part, _OutputOf) else part

        args, kwargs = _map(call.args, given), _map(call.kwargs, given)
        if lost:
            return Found("it was computed from tensors that are gone, so no module can be named")
        with _looking(call.module) as found:
            outputs.append(call.module(*args, **kwargs))
        again = _sample(outputs[-1])
        if call.is_known() and (
            len(again) != len(call.sample) or not all(map(_same_bits, again, call.sample))
        ):
            return Found(
                "called again with the same arguments the model gives something else, so no module "
                "can be named"
            )
        if found:
            return found[0]
    return Found("every output of the model is finite: the loss function made it")


@contextlib.contextmanager
def _looking(root: nn.Module) -> Iterator[list[Found]]:
    """Collect what is not finite, in the order in which the modules finish: inner ones first."""
    found: list[Found] = []
    handles = [
        part.register_forward_hook(_look(name, root, found), with_kwargs=True)
        for name, part in root.named_modules()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _look(name: str, root: nn.Module, found: list[Found]) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if found or is_finite(output):
            return
        outs = [t for t in tensors(output) if not is_finite(t)]
        kind = "nan" if bool(outs[0].isnan().any()) else "inf"
        title = f"{name} ({type(module).__name__})" if name else f"the {type(root).__name__}"
        came = [t for t in tensors((args, kwargs)) if t.is_floating_point() and t.numel()]
        if not name and not is_finite(came):
            text = "the model's inputs are not finite"
        elif not is_finite(came):
            above = name.rpartition(".")[0] or type(root).__name__
            text = f"the first is in the inputs of {title}: {kind}, computed in {above}"
        else:
            text = f"the first is in the output of {title}: {kind}{_from(came, module)}"
        found.append(Found(text, _rows(outs[0])))

    return hook


def _from(came: list[Tensor], module: nn.Module) -> str:
    bad = [n for n, p in module.named_parameters(recurse=False) if not is_finite(p)]
    if bad:
        return f", its {' and '.join(bad)} are not finite"
    if not came:
        return ""
    low, high = min(float(t.min()) for t in came), max(float(t.max()) for t in came)
    return f", from inputs between {low:.3g} and {high:.3g}"


def _rows(tensor: Tensor) -> list[int]:
    """Return the rows of a batch in which a tensor is not finite."""
    if tensor.ndim == 0:
        return []
    bad = ~torch.isfinite(tensor)
    return bad.reshape(tensor.shape[0], -1).any(1).nonzero().flatten().tolist()


def is_finite(value: Any) -> bool:
    """Whether every float in a batch, or in what a module returned, is finite."""
    return all(
        bool(torch.isfinite(t).all())
        for t in tensors(value)
        if t.layout == torch.strided and (t.is_floating_point() or t.is_complex())
    )


def _sample(output: Any) -> list[Tensor]:
    """Return a few elements of each tensor, without waiting for them; of one small tensor all, as a view."""
    if (
        type(output) is Tensor and output.numel() <= SMALL and output.layout == torch.strided
        and not output.is_inference()  # of which no version tells
    ):  # fmt: skip
        return [output.detach()]
    few = []
    for tensor in tensors(output):
        row = tensor.detach()
        if row.layout == torch.strided and row.numel():
            few.append(row[(0,) * (row.ndim - 1)].reshape(-1)[:SAMPLE].clone())
    return few


def _same_bits(a: Tensor, b: Tensor) -> bool:
    a, b = a.contiguous().reshape(-1), b.contiguous().reshape(-1)
    return a.dtype == b.dtype and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def _map(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply ``change`` to the tensors (and what stands for them) in tuples, lists and dicts."""
    if isinstance(value, dict):
        return {key: _map(item, change) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_map(item, change) for item in value)
    return change(value) if isinstance(value, (Tensor, _OutputOf, _Gone)) else value
