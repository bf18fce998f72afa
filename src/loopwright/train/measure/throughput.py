"""How fast, and how much of what the device can: samples a second and model FLOPs utilisation.

``MFU = samples/s · 3 · F / peak``, with ``F`` the FLOPs of one sample's forward pass; a backward pass
costs about twice a forward pass. The peak is what a large matrix product reaches on this very device,
measured in a fraction of a second, not what a data sheet says.

Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from loopwright.errors import UsageError
from loopwright.train.models.summary import first_tensor, summary

__all__ = ["measure_peak", "model_flops_utilization", "throughput"]

TRAINING_FLOPS = 3
"""A training step's FLOPs, in forward passes."""


def measure_peak(
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seconds: float = 0.2,
    size: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the FLOP/s of the fastest of several square matrix products.

    Args:
        device: where; its other work makes the number too small.
        dtype: in which the model's products are formed.
        seconds: how long to try, after one product that warms up.
        size: rows and columns; by default 1,024 on a CPU and 8,192 elsewhere.
        clock: in seconds.
    """
    device = torch.device(device)
    size = size or (1024 if device.type == "cpu" else 8192)
    one = torch.ones(size, size, device=device, dtype=dtype)
    out = torch.empty_like(one)
    wait = _waiter(device)

    def product() -> float:
        start = clock()
        torch.mm(one, one, out=out)
        wait()
        return clock() - start

    product()
    fastest, end = product(), clock() + seconds
    while clock() < end:
        fastest = min(fastest, product())
    return 2 * size**3 / max(fastest, 1e-12)


def model_flops_utilization(flops: float, samples_per_s: float, peak: float) -> float:
    """Return the share of ``peak`` that training at ``samples_per_s`` uses.

    Args:
        flops: of one sample's forward pass (``lw.summary(model, example).flops``).
        samples_per_s: trained on, forward and backward.
        peak: FLOP/s of the device (``measure_peak``).

    >>> model_flops_utilization(flops=1e9, samples_per_s=100, peak=1e12)
    0.3
    """
    return TRAINING_FLOPS * flops * samples_per_s / peak


def throughput(flops: float | None = None, peak: float | None = None) -> Callable[[Any], None]:
    """Return a callback that logs ``mfu``: ``Run(..., callbacks=[throughput()])``.

    Args:
        flops: of one sample's forward pass; None: counted at the first update, with the first sample
            of the first tensor in the batch as the model's only input.
        peak: FLOP/s of the device; None: measured when the run begins, in 0.2 seconds.
    """

    def register(run: Any) -> None:
        _Utilization(flops, peak or measure_peak(run.device)).attach(run)

    return register


class _Utilization:
    """Turns the speed that a run logs into a share of the device's peak."""

    def __init__(self, flops: float | None, peak: float) -> None:
        self.flops = flops
        self.peak = peak
        self._new: float | None = None

    def attach(self, run: Any) -> None:
        run.on("log", self._measure)
        run.on("update", self._hand_on)

    def _measure(self, event: Any) -> None:
        speed = event.values.get("samples_per_s")
        if speed and self.flops:
            self._new = model_flops_utilization(self.flops, speed, self.peak)

    def _hand_on(self, event: Any) -> None:
        if self.flops is None:
            self.flops = _count(event)
        if self._new is not None:
            event.step.log(mfu=self._new)
            self._new = None


def _count(event: Any) -> int:
    model, batch = event.run.model, event.step.batch
    inputs = first_tensor(batch)
    flops = None
    if isinstance(model, nn.Module) and inputs is not None and inputs.ndim:
        flops = summary(model, inputs[:1]).flops
    if flops is None:
        raise UsageError(
            "the model's FLOPs could not be counted from the first tensor of the batch.",
            slug="throughput-flops",
            hint="give throughput(lw.summary(model, example).flops)",
        )
    return flops


def _waiter(device: torch.device) -> Callable[[], None]:
    if device.type == "cpu":
        return lambda: None
    return lambda: torch.accelerator.synchronize(device)
