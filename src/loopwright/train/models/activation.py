"""Activation checkpointing: parts of a model keep no activations and compute them again in backward."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from loopwright.errors import UsageError
from loopwright.train.models.patterns import unmatched

__all__ = ["Checkpointed", "checkpoint_activations"]


def checkpoint_activations(model: nn.Module, *which: str | type[nn.Module]) -> Checkpointed:
    """Let the chosen submodules recompute their activations in backward, in place.

    Gradients are bit-equal, dropout included (its draws are repeated). BatchNorm statistics move once,
    not twice. Costs about one more forward pass of the chosen parts. Modules in eval mode or without
    gradients run as before. Inside a chosen module nothing else is chosen.

    Args:
        model: its chosen submodules get a new ``forward``.
        which: module classes, module names, or globs on names (``*`` goes across dots).

    Returns:
        A handle; ``remove()`` or leaving it as a context manager undoes everything.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> handle = checkpoint_activations(model, nn.Linear)
    >>> handle.names
    ['0', '2']
    >>> model(torch.ones(2, 4)).sum().backward()
    >>> handle.remove()

    Raises:
        UsageError: something given matches no submodule.

    Source: Chen et al. 2016, arXiv:1604.06174; torch/utils/checkpoint.py.
    """
    named = [(name, module) for name, module in model.named_modules() if name]
    for each in which:
        if isinstance(each, str):
            if not any(fnmatchcase(name, each) for name, _ in named):
                raise unmatched(each, [name for name, _ in named], "module")
        elif not any(isinstance(module, each) for _, module in named):
            kinds = sorted({type(module).__name__ for _, module in named})
            raise UsageError(
                f"no module is a {each.__name__}; there are {', '.join(kinds)}.",
                slug="pattern-unmatched",
            )
    chosen: dict[str, nn.Module] = {}
    for name, module in named:
        inside = any(name.startswith(outer + ".") for outer in chosen)
        if not inside and any(
            fnmatchcase(name, each) if isinstance(each, str) else isinstance(module, each)
            for each in which
        ):
            chosen[name] = module
    return Checkpointed(chosen)


class Checkpointed:
    """The modules whose activations are recomputed, and the way back.

    Attributes:
        names: of the chosen modules.
    """

    def __init__(self, chosen: dict[str, nn.Module]) -> None:
        self.names = list(chosen)
        self._before: list[tuple[nn.Module, Any]] = []
        for module in chosen.values():
            self._before.append((module, module.__dict__.get("forward")))
            module.forward = _Recomputed(module, module.forward)

    def remove(self) -> None:
        """Give every module its own ``forward`` back; a second call does nothing."""
        for module, forward in self._before:
            if forward is None:
                del module.forward
            else:
                module.forward = forward
        self._before = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


class _Recomputed:
    """A ``forward`` that keeps only its inputs."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        self.module = module
        self.forward = forward
        self.norms = [m for m in module.modules() if isinstance(m, _NormBase)]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (self.module.training and torch.is_grad_enabled()):
            return self.forward(*args, **kwargs)
        settings: dict[str, Any] = {"use_reentrant": False}
        norms = [norm for norm in self.norms if norm.training and norm.track_running_stats]
        if norms:
            # torch.compile takes no context_fn of this kind, so it is given only where it is needed.
            settings["context_fn"] = lambda: (contextlib.nullcontext(), _held(norms))
        return checkpoint(self.forward, *args, **settings, **kwargs)


@contextlib.contextmanager
def _held(norms: list[_NormBase]) -> Iterator[None]:
    """Let norm layers run without moving their running statistics.

    With a momentum of 0 they are written with their own values; torch compares what both passes save, so
    they can't be left out.
    """
    before = [
        (n, n.momentum, None if n.num_batches_tracked is None else n.num_batches_tracked.clone())
        for n in norms
    ]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum = momentum
            if batches is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(batches)
