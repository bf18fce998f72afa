"""An exponential moving average of a model's weights, swapped in for evaluation.

The average begins as a copy of the weights after the first update that it sees; from then on, with
``d`` the decay, ``average <- d · average + (1 - d) · weights``. Before that there is no average, and an
evaluation uses the raw weights.

What is averaged: parameters and float buffers (BatchNorm's running statistics belong to the weights
they were measured with). What is copied: integer and bool buffers, and any float element that is not
finite, such as the ``-inf`` of an attention mask, which would average to NaN. Non-persistent buffers
and parameters that are frozen are left alone. Weights in half precision are averaged in float32, where
``1 - d`` is not lost to rounding.

Source: Polyak and Juditsky 1992; Tarvainen and Valpola 2017, arXiv:1703.01780 (buffers averaged).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from loopwright.errors import CheckpointError, StateError, UsageError
from loopwright.train.models.aliases import clone_together

__all__ = ["EMA"]


class EMA:
    """Keeps an exponential moving average of weights and buffers on their own device.

    Args:
        decay: ``d`` above, from 0 to 1; 0.999 looks back over about 1,000 updates.
        every: average at every so many updates only.
        warmup: begin with a smaller decay, ``min(decay, (1 + n) / (10 + n))`` at the n-th average.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> ema = EMA(decay=0.5)
    >>> ema.attach(model)
    >>> for value in (1.0, 3.0):
    ...     _ = model.weight.data.fill_(value)
    ...     ema.update()
    >>> with ema.swapped():
    ...     model.weight.item()
    2.0
    >>> model.weight.item()
    3.0
    """

    def __init__(self, decay: float = 0.999, every: int = 1, warmup: bool = False) -> None:
        if not 0 <= decay <= 1:
            raise UsageError(f"decay is {decay!r}; it lies between 0 and 1.", slug="ema-decay")
        if every < 1:
            raise UsageError(f"every is {every!r}; it counts updates.", slug="ema-every")
        self.decay = decay
        self.every = every
        self.warmup = warmup
        self.updates = 0
        self.averages = 0
        self._modules: dict[str, nn.Module] = {}
        self._average: dict[str, Tensor] = {}
        self._pairs: _Pairs | None = None
        self._swaps = 0

    def attach(self, modules: nn.Module | Mapping[str, nn.Module]) -> None:
        """Say what is averaged; nothing is copied before the first update.

        Args:
            modules: a module, or several by name; the bare ones, not compiled or wrapped.
        """
        self._modules = {"model": modules} if isinstance(modules, nn.Module) else dict(modules)
        self._pairs = None

    @property
    def started(self) -> bool:
        """Whether there is an average yet."""
        return bool(self._average)

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights as they are after an update of the optimizer into the average; no sync.

        Raises:
            StateError: the average is swapped in at this moment.
        """
        if self._swaps:
            raise StateError("EMA.update() while the average is swapped in.", slug="ema-swapped")
        self.updates += 1
        if self.updates % self.every:
            return
        if self._pairs is None or self._pairs.outdated():
            self._pairs = self._collect()
        decay = self.decay
        if self.warmup:
            decay = min(decay, (1 + self.averages) / (10 + self.averages))
        self._pairs.average(1 - decay)
        self.averages += 1

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """Exchange weights and averages for the length of a ``with`` block; nothing is copied.

        The Parameter objects stay the same, only what they point to changes (weights in half
        precision get a rounded copy of their float32 average). Nested, the inner one does nothing.
        """
        self._swaps += 1
        try:
            if self._swaps > 1 or not self._average:
                yield
                return
            if self._pairs is None or self._pairs.outdated():
                self._pairs = self._collect()
            with self._pairs.swapped():
                yield
        finally:
            self._swaps -= 1

    def state_dict(self) -> dict[str, Any]:
        """Return the counts and the averages themselves, by name (not copies)."""
        return {
            "updates": self.updates,
            "averages": self.averages,
            "average": dict(self._average),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved average; it is copied to the attached modules' devices.

        Raises:
            CheckpointError: a name or a shape is not the attached modules'.
            StateError: nothing is attached.
        """
        self._require_attached()
        names = dict(self._tensors())
        for name, saved in state["average"].items():
            if name not in names or names[name].shape != saved.shape:
                shape = tuple(names[name].shape) if name in names else "not in the model"
                raise CheckpointError(
                    f"the saved average of {name!r} has shape {tuple(saved.shape)}, the model's is "
                    f"{shape}.",
                    slug="ema-mismatch",
                )
        self.updates = int(state["updates"])
        self.averages = int(state["averages"])
        with torch.inference_mode(False):
            self._average = {
                name: saved.detach().to(names[name].device, _wide(saved.dtype), copy=True)
                for name, saved in state["average"].items()
            }
        self._pairs = None

    def __repr__(self) -> str:
        return f"EMA(decay={self.decay}, every={self.every}, warmup={self.warmup})"

    def _require_attached(self) -> None:
        if not self._modules:
            raise StateError(
                "this EMA averages nothing yet.",
                slug="ema-unattached",
                hint="lw.Run(..., ema=EMA()) does it; by hand, ema.attach(model)",
            )

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every parameter and persistent buffer once, shared ones under their first name."""
        seen: set[int] = set()
        for key, module in self._modules.items():
            skipped = {
                f"{path}.{name}" if path else name
                for path, part in module.named_modules()
                for name in part._non_persistent_buffers_set
            }
            named = [*module.named_parameters(), *module.named_buffers()]
            for name, tensor in named:
                if id(tensor) not in seen and name not in skipped:
                    seen.add(id(tensor))
                    yield f"{key}.{name}", tensor

    def _collect(self) -> _Pairs:
        """Pair every tensor with its average; what has none yet begins as a copy."""
        self._require_attached()
        pairs = _Pairs()
        new: dict[str, Tensor] = {}
        for name, tensor in self._tensors():
            frozen = isinstance(tensor, nn.Parameter) and not tensor.requires_grad
            if frozen and name not in self._average:
                pairs.frozen.append(tensor)
            elif name in self._average:
                pairs.add(tensor, self._average[name])
            else:
                new[name] = tensor
        for (name, tensor), copy in zip(new.items(), clone_together(new.values()), strict=True):
            self._average[name] = copy.to(_wide(copy.dtype))
            pairs.add(tensor, self._average[name])
        return pairs


class _Pairs:
    """Tensors of the model beside their averages, sorted by how they are averaged."""

    def __init__(self) -> None:
        self.frozen: list[Tensor] = []
        self._parts: set[int] = set()
        self._lerped: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._widened: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._buffers: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._copied: tuple[list[Tensor], list[Tensor]] = ([], [])

    def add(self, tensor: Tensor, average: Tensor) -> None:
        """Sort a pair in; of sharded ones, this process's parts."""
        parameter = isinstance(tensor, nn.Parameter)
        if hasattr(tensor, "_local_tensor"):
            tensor, average = tensor._local_tensor, average._local_tensor  # type: ignore[attr-defined]
            self._parts.add(id(tensor))
        if not tensor.is_floating_point() and not tensor.is_complex():
            kind = self._copied
        elif not parameter:
            kind = self._buffers
        else:
            kind = self._lerped if average.dtype == tensor.dtype else self._widened
        kind[0].append(tensor)
        kind[1].append(average)

    def outdated(self) -> bool:
        """Whether a parameter that was frozen trains now."""
        return any(tensor.requires_grad for tensor in self.frozen)

    def average(self, weight: float) -> None:
        tensors, averages = self._lerped
        if tensors:
            torch._foreach_lerp_(averages, [t.detach() for t in tensors], weight)
        tensors, averages = self._widened
        if tensors:
            torch._foreach_lerp_(
                averages,
                [t.detach().to(a.dtype) for t, a in zip(tensors, averages, strict=True)],
                weight,
            )
        for tensor, average in zip(*self._buffers, strict=True):
            now = tensor.to(average.dtype)
            mean = torch.lerp(average, now, weight)
            # An average with inf on either side is inf or NaN; the buffer's own value is right.
            average.copy_(torch.where(average.isfinite() & now.isfinite(), mean, now))
        tensors, averages = self._copied
        if tensors:
            torch._foreach_copy_(averages, tensors)

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        groups = (self._lerped, self._widened, self._buffers, self._copied)
        pairs = [pair for group in groups for pair in zip(*group, strict=True)]
        # FSDP2 gathers from the memory that it made: averages of parts are copied there.
        parts = [pair for pair in pairs if id(pair[0]) in self._parts]
        whole = [pair for pair in pairs if id(pair[0]) not in self._parts]
        raw = [tensor.data for tensor, _ in whole]
        own = clone_together(tensor for tensor, _ in parts)
        try:
            for tensor, average in whole:
                tensor.data = average.to(tensor.dtype)
            _copy([tensor for tensor, _ in parts], [average for _, average in parts])
            # Autocast keeps low-precision copies by Parameter object, which is the same one.
            torch.clear_autocast_cache()
            yield
        finally:
            for (tensor, _), data in zip(whole, raw, strict=True):
                tensor.data = data
            _copy([tensor for tensor, _ in parts], own)
            torch.clear_autocast_cache()


def _copy(to: list[Tensor], values: list[Tensor]) -> None:
    with torch.no_grad():
        for tensor, value in zip(to, values, strict=True):
            tensor.copy_(value)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which ``dtype`` is averaged: float32 for half precision."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
