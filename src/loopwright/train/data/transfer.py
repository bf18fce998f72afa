"""Batches on their way to the device, overlapped with compute where there is an accelerator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from loopwright.train.data.batches import map_tensors, tensors
from loopwright.train.data.rows import Rows

SHARE = 0.02
"""Of a device's memory that a copy of the data may take, where half of that memory is free."""


class Transfer:
    """Moves batches to one device.

    On the CPU a batch is passed on as it is. On an accelerator with streams, ``send`` copies from
    pinned memory on a side stream and ``receive`` makes the compute stream wait for that copy and
    marks each tensor as used there (``record_stream``), so that the allocator does not hand its
    memory to a later copy while kernels still read it. The host tensors are kept until their copy
    is done for the same reason.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._module: Any = torch.get_device_module(device) if device.type != "cpu" else None
        self._stream = (
            self._module.Stream(device)
            if self._module is not None and device.type in ("cuda", "xpu")
            else None
        )
        self._brought: Any = None  # the event after the rows that batches are cut from
        self._index = device.index  # a number is looked up ten times faster than a device
        self.rows = Rows(self)

    def chunk(self, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return what several batches will be cut from; ``send`` and ``receive`` are for the batches."""
        if self._stream is None:
            return parts
        with self._module.stream(self._stream):
            there = [part.pin_memory().to(self.device, non_blocking=True) for part in parts]
        return self._noted(there)

    def _noted(self, there: list[torch.Tensor]) -> list[torch.Tensor]:
        self._brought = self._module.Event()
        self._brought.record(self._stream)
        return there

    def room(self) -> float:
        """Return the bytes that a copy of the data may take on the device."""
        if self.device.type != "cuda":  # some GPUs of XPU do not tell
            return 0
        free, total = self._module.mem_get_info(self.device)
        return SHARE * total if free >= total / 2 else 0

    def copies(self, parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return copies of tensors on the device, for `gathered`."""
        with self._module.stream(self._stream):
            return [part.to(self.device) for part in parts]

    def gathered(
        self, parts: Sequence[torch.Tensor], indices: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Return rows of tensors that are on the device; as `chunk` does of those that are not."""
        with self._module.stream(self._stream):
            rows = {
                id(index): index.pin_memory().to(self.device, non_blocking=True)
                for index in {id(one): one for one in indices}.values()
            }
            there = [
                part.index_select(0, rows[id(index)])
                for part, index in zip(parts, indices, strict=True)
            ]
        return self._noted(there)

    def send(self, batch: Any) -> tuple[Any, Any]:
        """Start the copy of ``batch``; returns what ``receive`` takes."""
        if self._module is None:
            return batch, None
        if self._stream is None:
            return map_tensors(batch, lambda part: part.to(self.device)), None
        kept: list[torch.Tensor] = []
        compute = None if _is_here(batch, self.device) else self._module.current_stream(self._index)

        def move(part: Any) -> Any:
            if not isinstance(part, torch.Tensor):
                # Its tensors are out of sight for receive(), so they belong to the compute stream.
                with self._module.stream(compute):
                    return part.to(self.device)
            if part.device == self.device:
                return part
            if part.layout != torch.strided:  # nor can its parts be marked as used there
                with self._module.stream(compute):
                    return part.to(self.device)
            if part.device.type == "cpu" and not part.is_pinned():
                part = part.pin_memory()
            kept.append(part)
            return part.to(self.device, non_blocking=True)

        if compute is None:  # cut from rows that are on their way, or the user's own
            return batch, None if self._brought is None else (self._brought, kept)
        done = self._module.Event()
        with self._module.stream(self._stream):
            moved = map_tensors(batch, move)
            done.record(self._stream)
        return moved, (done, kept)

    def receive(self, sent: tuple[Any, Any]) -> Any:
        """Return the batch on the device, safe to use on the current stream."""
        batch, pending = sent
        if pending is None:
            return batch
        done, _kept = pending
        current = self._module.current_stream(self._index)
        current.wait_event(done)
        for tensor in tensors(batch):
            if tensor.device == self.device and tensor.layout == torch.strided:
                tensor.record_stream(current)
        return batch

    def hold(self, batches: Any) -> None:
        """Let the compute stream wait for batches that were sent, however many; as ``receive`` for each."""
        if self._stream is None:
            return
        current = self._module.current_stream(self._index)
        current.wait_stream(self._stream)
        for tensor in tensors(batches):
            if tensor.device == self.device and tensor.layout == torch.strided:
                tensor.record_stream(current)


def _is_here(batch: Any, device: torch.device) -> bool:
    """Whether a batch is a list of tensors that are on the device."""
    return type(batch) in (list, tuple) and all(
        type(part) is torch.Tensor and part.device == device for part in batch
    )
