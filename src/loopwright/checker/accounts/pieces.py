"""Which part of a larger batch a pass is about: rows of one tensor, or rows that a part of one index names.

Whoever cuts a batch into pieces and adds up their gradients accumulates. Passes over tensors of their own
may be tasks or domains, whose losses are summed on purpose.
"""

from __future__ import annotations

from types import FrameType

import torch

from loopwright.events import Event
from loopwright.observe import graph
from loopwright.observe.sites import user_frame, variables

Piece = tuple[int, int]
"""Storage and offset."""
FRAMES = 3
"""Functions of the program that are searched for an index, from the one that calls backward outwards."""


def given_to(event: Event) -> list[torch.Tensor]:
    """The tensors that a module was given."""
    return [one for one in (*event.args, *event.kwargs.values()) if isinstance(one, torch.Tensor)]


def piece_of(tensor: torch.Tensor) -> Piece | None:
    """Storage and offset of a tensor that is some rows, one after the other, of a larger one."""
    whole = tensor._base
    if whole is None or tensor.requires_grad or not 0 < tensor.dim() == whole.dim():
        return None
    if tensor.shape[1:] != whole.shape[1:] or tensor.stride() != whole.stride():
        return None
    if tensor.shape[0] >= whole.shape[0]:
        return None
    return graph.storage_pointer(tensor), int(tensor.storage_offset())


def index_of(frame: FrameType | None, rows: int) -> Piece | None:
    """A part of a larger index in the program's variables, as long as what the model was given."""
    frame = user_frame(frame)
    for _ in range(FRAMES):
        if frame is None:
            return None
        for one in list(variables(frame).values()):
            if (
                type(one) is torch.Tensor
                and one.dtype == torch.int64
                and one.shape == (rows,)
                and (piece := piece_of(one)) is not None
            ):
                return piece
        frame = user_frame(frame.f_back)
    return None
