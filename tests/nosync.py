"""A mode that fails the test at any operation that would make the host wait for a GPU."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = {
    "_local_scalar_dense",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "repeat_interleave",
    "unique_consecutive",
    "_unique2",
}


class NoSync(TorchDispatchMode):
    """Raises at ``.item()``, boolean masks, ``bincount`` and the like: on the CPU as on a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0].rstrip("_")
        masks = []
        if name in ("index", "index_put"):
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
        if name in WAITS or func.__name__.split(".")[0] in WAITS or masks:
            raise AssertionError(f"{func} would wait for the device")
        return func(*args, **(kwargs or {}))
