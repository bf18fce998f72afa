"""Out of memory, in words: how much was asked for, and what takes the room."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from loopwright.train.data.batches import tensors
from loopwright.train.mishaps import describe

if TYPE_CHECKING:
    from loopwright.train.run import Run

SHOWN = 6
"""Tensors that are listed, the largest first."""

SMALL = 1_000_000
"""Bytes below which a tensor is not worth a line."""

HINT = (
    "smaller batches with accumulate=… give the same gradients; or precision='bf16', "
    "lw.checkpoint_activations(model), an optimizer with less state"
)

_SAID = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "Cannot allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_ASKED = re.compile(r"[Tt]ried to allocate ([\d.]+) ?(bytes|[KMGTP]i?B)|allocate (\d+) bytes")
_UNITS = {"bytes": 1, **{f"{p}{b}B": (1024 if b else 1000) ** n
                         for n, p in enumerate("KMGTP", 1) for b in ("i", "")}}  # fmt: skip


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory is short, on an accelerator or the CPU.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."))
    True
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


def reading(error: BaseException) -> str:
    """Return the error's message in one clause, without the allocator's statistics.

    >>> reading(
    ...     RuntimeError("[enforce fail] can't allocate memory: you tried to allocate 4000 bytes.")
    ... )
    'out of memory: 4.0 kB were asked for'
    """
    asked = asked_for(error)
    return "out of memory" + (f": {size(asked)} were asked for" if asked else "")


def asked_for(error: BaseException) -> int | None:
    """Return the bytes that could not be had, where the message says so."""
    found = _ASKED.search(str(error))
    if found is None:
        return None
    if found[3]:
        return int(found[3])
    return round(float(found[1]) * _UNITS[found[2]])


def size(count: float) -> str:
    """Return a number of bytes in the unit that suits it (10^3).

    >>> size(512), size(1_500_000), size(4.5e15)
    ('512 bytes', '1.5 MB', '4.5 PB')
    """
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} PB"


def table(run: Run | None) -> list[str]:
    """Return lines that name the largest tensors alive, and what a device has left.

    The activations that autograd keeps for backward are no Python objects: on an accelerator they are
    the difference between what is listed and what is allocated, and told so.
    """
    device = torch.device("cpu") if run is None else run.device
    named = [] if run is None else list(_named(run))
    names = {_memory(found): name for found, name in named}
    # A gradient is an object of Python's only while somebody looks at it.
    alive = sorted(_alive(device, [found for found, _ in named]), key=lambda pair: -pair[0])
    rows = [
        (size(count), names.get(_memory(found), "another tensor"), describe.tensor(found))
        for count, found in alive[:SHOWN]
        if count >= SMALL
    ]
    wide = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    lines = [f"    {a:>{wide[0]}}  {b:<{wide[1]}}  {c}" for a, b, c in rows]
    total = sum(count for count, _ in alive)
    said = f"the tensors that are alive hold {size(total)}" + (", the largest:" if rows else "")
    return [*_device(device, total), said, *lines]


def _device(device: torch.device, listed: int) -> list[str]:
    if device.type != "cuda":
        return []
    free, there = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    kept = max(0, allocated - listed)
    said = (
        f"{device} has {size(there)}, {size(free)} of it free; this program holds {size(allocated)}"
    )
    return [f"{said}, of which {size(kept)} are activations and what else has no name"]


def _alive(device: torch.device, more: list[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Yield the bytes of each piece of memory that tensors stand in, with the largest view of it."""
    found: dict[int, tuple[int, Tensor]] = {}
    for thing in chain(gc.get_objects(), more):
        if not issubclass(type(thing), Tensor) or thing.device.type != device.type:
            continue
        if thing.layout != torch.strided or not (where := _memory(thing)):
            continue
        known = found.get(where)
        if known is None or thing.numel() > known[1].numel():
            found[where] = thing.untyped_storage().nbytes(), thing
    yield from found.values()


def _memory(tensor: Tensor) -> int:
    """Return the address of a tensor's memory; 0 where it has none."""
    try:
        storage = tensor.untyped_storage()
        return (
            0 if storage.device.type == "meta" else storage.data_ptr()
        )  # the compiler's have none
    except RuntimeError:  # a fake or functional tensor
        return 0


def _named(run: Run) -> Iterator[tuple[Tensor, str]]:
    """Yield a run's tensors and their names, those that say most last: a dict keeps these."""
    current = run.active.current if run.active is not None else None
    if current is not None:
        yield from ((t, f"batch, part {n}") for n, t in enumerate(tensors(current.batch)))
    if run.ema is not None:
        yield from ((t, f"average {n}") for n, t in enumerate(tensors(run.ema.state_dict())))
    names: dict[Any, str] = {}
    for key, model in run.models.items():
        before = f"{key}." if len(run.models) > 1 else ""
        yield from ((buffer, f"{before}{name} (buffer)") for name, buffer in model.named_buffers())
        for name, parameter in model.named_parameters():
            names[parameter] = before + name
            yield parameter, before + name
            if parameter.grad is not None:
                yield parameter.grad, f"{before}{name}, gradient"
    for optimizer in run.optimizers.values():
        for parameter, state in optimizer.state.items():
            whose = names.get(parameter, "a parameter")
            yield from (
                (part, f"{whose}, optimizer's {name}")
                for name, part in state.items() if isinstance(part, Tensor)
            )  # fmt: skip
