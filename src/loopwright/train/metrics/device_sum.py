"""A running sum that stays on the device of what is added: no synchronisation until it is read."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

__all__ = ["DeviceSum", "has_float64"]


@functools.cache
def has_float64(device: torch.device) -> bool:
    """Whether ``device`` computes in float64 (Apple's GPUs do not, some of Intel's do not).

    >>> has_float64(torch.device("cpu"))
    True
    """
    if device.type == "mps":
        return False
    if device.type == "xpu":
        return bool(torch.xpu.get_device_properties(device).has_fp64)
    return True


class DeviceSum:
    """Adds up tensors in float64 where their device has it, otherwise in compensated float32.

    Python numbers are added on the host and cost the device nothing. The sum lives on the device of
    the last accelerator tensor that was added; a CPU tensor added later goes there without a wait.

    >>> total = DeviceSum()
    >>> total.add(torch.tensor([1.0, 2.0]))
    >>> total.add(0.5)
    >>> float(total.tensor())
    3.5
    """

    def __init__(self) -> None:
        self._host = 0.0
        self._sum: Tensor | None = None
        self._lost: Tensor | None = None  # what float32 additions rounded away; None in float64

    @torch.no_grad()
    def add(self, values: Tensor | float) -> None:
        """Add every element of ``values``; nothing is read back.

        Args:
            values: a number, or a tensor of any shape and of a floating, integer or bool type.
        """
        if not isinstance(values, Tensor):
            self._host += float(values)
            return
        total = self._on(values.device)
        if values.device != total.device:
            values = values.to(total.device, non_blocking=True)
        if self._lost is None:
            # One kernel for a loss, two for anything larger.
            total.add_(values if values.ndim == 0 else values.sum(dtype=torch.float64))
            return
        term = values.to(torch.float32).sum()
        # Knuth's two-sum, then renormalised: about 48 bits, whichever of the two is the larger.
        new = total + term
        back = new - total
        rest = (total - (new - back)) + (term - back) + self._lost
        rest = torch.where(new.isfinite(), rest, 0.0)  # inf - inf would hide an inf
        total.copy_(new + rest)
        self._lost.copy_(torch.where(total.isfinite(), rest - (total - new), 0.0))

    def tensor(self) -> Tensor:
        """Return the sum as a 0-d tensor on its device, without waiting for it."""
        if self._sum is None:
            return torch.tensor(self._host, dtype=torch.float64)
        total = self._sum if self._lost is None else self._sum + self._lost
        return total + self._host

    def state(self) -> Tensor:
        """Return the exact state, three float64 numbers on the CPU (waits for the device)."""
        parts = [0.0 if part is None else float(part) for part in (self._sum, self._lost)]
        return torch.tensor([self._host, *parts], dtype=torch.float64)

    def load(self, state: Tensor) -> None:
        """Take over what ``state()`` returned; the next tensor that is added brings it to its device."""
        self._host = float(state[0])
        with torch.inference_mode(False):
            self._sum = state[1].detach().to("cpu", torch.float64, copy=True)
            self._lost = state[2].detach().to("cpu", torch.float64, copy=True)
        if float(self._lost) == 0.0:
            self._lost = None

    def _on(self, device: torch.device) -> Tensor:
        """Return the running sum, made on or brought to ``device`` (an accelerator is never left)."""
        if self._sum is not None and device.type == "cpu":
            device = self._sum.device
        exact = has_float64(device)
        dtype = torch.float64 if exact else torch.float32
        known = self._sum
        if known is not None and (known.device, known.dtype) == (device, dtype):
            return known
        # A tensor made under inference_mode could not be added to outside it.
        with torch.inference_mode(False):
            old, lost = self._sum, self._lost
            zero = torch.zeros((), dtype=dtype, device=device)
            if exact:
                self._lost = None
                self._sum = zero if old is None else old.to(device, dtype, copy=True)
                if lost is not None:
                    self._sum += lost.to(device, dtype)
            else:
                self._sum = zero if old is None else old.to(dtype).to(device)
                self._lost = zero.clone() if lost is None else lost.to(dtype).to(device)
                if old is not None and lost is None:
                    rest = old.to(torch.float64) - old.to(dtype).to(torch.float64)
                    self._lost = rest.to(dtype).to(device)
        return self._sum
