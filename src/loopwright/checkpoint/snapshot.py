"""A copy of a state's tensors in CPU memory, so that training goes on while they are written."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from loopwright.checkpoint.arrays import memory_of


class Snapshot:
    """CPU buffers that one save after the other copies into.

    Reusing them matters: fresh memory costs page faults, about three times the copy itself. The price
    is one copy of the state in host memory for as long as the run lasts. Buffers for tensors on a CUDA
    device are pinned, so that the copies overlap and are waited for once.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copy tensors; the result is valid until the next call.

        Args:
            tensors: ``{name: contiguous tensor}``, on any device.

        Returns:
            The same names with CPU copies. Buffers of names that are gone are freed.
        """
        devices = set()
        taken = {}
        with torch.inference_mode(False), torch.no_grad():
            for name, tensor in tensors.items():
                buffer = self._buffers.get(name)
                if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                    buffer = _buffer(tensor)
                _copy(tensor, buffer)
                if tensor.is_cuda:
                    devices.add(tensor.device)
                taken[name] = buffer
            for device in devices:
                torch.cuda.current_stream(device).synchronize()
        self._buffers = taken
        return taken

    def release(self) -> None:
        """Free the buffers."""
        self._buffers = {}


def _copy(tensor: Tensor, buffer: Tensor) -> None:
    if tensor.device.type != "cpu":
        buffer.copy_(tensor, non_blocking=tensor.is_cuda)
    elif tensor.numel():
        # One plain memcpy. torch's copy_ splits it over its threads and waits for the slowest:
        # 500 ms instead of 45 for 100 MB when others (DataLoader workers) have both cores.
        np.copyto(np.asarray(memory_of(buffer)), np.asarray(memory_of(tensor)))


def _buffer(tensor: Tensor) -> Tensor:
    if tensor.is_cuda:
        try:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
        except RuntimeError:
            # Page-locked memory is limited on some machines; ordinary memory is slower and right.
            pass
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
