"""Reading tensors without leaving a trace: norms, summaries, differences, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from loopwright.events.explained import TensorNote
from loopwright.explainer.effects import wrapped
from loopwright.observe import content

PIECE, DEVICE_PIECE = 1 << 15, 1 << 20
"""Elements that are looked at together where a copy is needed, on the host and on a device.

256 kB in float64: pieces of 8 MB were four times slower, and up to 200 MB of them were kept. A device
is waited for once a piece.
"""
SAMPLE = 4096
SHOWN = 8
BARS = 16


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing inside is recorded by autograd, cast by autocast, or made an inference tensor."""
    with torch.inference_mode(False), content.quiet(), torch.autocast("cpu", enabled=False):
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            with torch.autocast("cuda", enabled=False):
                yield
        else:
            yield


def wide(tensor: torch.Tensor) -> torch.dtype:
    """The widest floating dtype of the tensor's device."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def norm(tensor: torch.Tensor) -> float:
    """The L2 norm, accumulated in the widest dtype, in pieces: torch would copy a tensor whole for it."""
    if tensor.numel() <= PIECE:
        return float(torch.linalg.vector_norm(_dense(tensor), dtype=wide(tensor)))
    flat = _flat(tensor)
    return together(
        [float(torch.linalg.vector_norm(flat[one], dtype=wide(tensor))) for one in _pieces(flat)]
    )


def _pieces(flat: torch.Tensor) -> Iterator[slice]:
    length = PIECE if flat.device.type == "cpu" else DEVICE_PIECE
    for start in range(0, flat.numel(), length):
        yield slice(start, start + length)


def difference(new: torch.Tensor, old: torch.Tensor) -> float:
    """The L2 norm of ``new - old``, taken in the widest dtype, piece by piece."""
    total = 0.0
    first, second = _flat(new), _flat(old)
    for one in _pieces(first):
        piece = first[one].to(wide(new)) - second[one].to(wide(new))
        total += float(torch.linalg.vector_norm(piece)) ** 2
    return math.sqrt(total)


def together(norms: list[float]) -> float:
    """The norm of everything from the norms of its parts."""
    return math.sqrt(sum(one * one for one in norms))


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    if tensor.layout == torch.strided:
        return tensor
    return tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor.to_dense()


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """All elements in the order in which they lie in memory: no copy of a dense tensor."""
    tensor = _dense(tensor)
    if not tensor.is_contiguous():
        order = sorted(range(tensor.dim()), key=lambda one: -tensor.stride(one))
        tensor = tensor.permute(order)
    return tensor.reshape(-1)


def bytes_of(tensor: torch.Tensor) -> int:
    """What its elements take."""
    return tensor.numel() * tensor.element_size()


def summary(tensor: torch.Tensor, name: str) -> TensorNote:
    """A tensor as a note; only its shape where its values cannot be read."""
    note = TensorNote(
        name=name,
        shape=list(tensor.shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
        device=str(tensor.device),
        bytes=bytes_of(tensor),
        requires_grad=tensor.requires_grad,
        leaf=tensor.is_leaf,
        node=tensor.grad_fn.name() if tensor.grad_fn is not None else "",
        retains=tensor.retains_grad and not tensor.is_leaf,
    )
    tensor = wrapped.inside(tensor)
    if not content.readable(tensor):
        note.at_once = wrapped.lanes(tensor)
        return note
    with quiet():
        if (tensor.is_leaf or tensor.retains_grad) and tensor.grad is not None:
            note.grad = norm(tensor.grad)
        flat = _flat(tensor)
        if flat.numel() == 0 or tensor.is_complex():
            return note
        if flat.dtype == torch.bool:
            flat = flat.to(torch.uint8)
        _exact(flat, note)
        _sampled(flat, note)
    return note


def _exact(flat: torch.Tensor, note: TensorNote) -> None:
    low, high = torch.aminmax(flat)
    note.low, note.high = float(low), float(high)
    note.zeros = flat.numel() - int(torch.count_nonzero(flat))
    if flat.is_floating_point():
        note.norm = norm(flat)
        if not math.isfinite(note.norm):
            note.nonfinite = sum(int((~torch.isfinite(flat[one])).sum()) for one in _pieces(flat))
    if flat.numel() <= SHOWN:
        note.values = [float(one) for one in flat.cpu()]


def _sampled(flat: torch.Tensor, note: TensorNote) -> None:
    taken = flat[:: -(-flat.numel() // SAMPLE)].to("cpu", torch.float64)
    taken = taken[torch.isfinite(taken)]
    note.sampled = taken.numel()
    if not taken.numel():
        return
    note.mean = float(taken.mean())
    note.std = float(taken.std(correction=0))
    low, high = float(taken.min()), float(taken.max())
    if high > low and taken.numel() > SHOWN:
        place = ((taken - low) / (high - low) * BARS).long().clamp_(max=BARS - 1)
        note.histogram = torch.bincount(place, minlength=BARS).tolist()
