"""Turns as launches of one graph, which finds its batch by a counter in the device's memory.

A launch is all that the host does for a turn: batches of a stretch are put side by side into slots by one
call, the graph takes the next one, trains, and writes what it found into the row of that slot. Two graphs and
four copies kept the host 190 µs a turn of the digits on an H200, whose kernels are 75; what one launch saves
was not seen yet: the only run with it had a GPU without free memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from loopwright.train.capture.made import Made, unique
from loopwright.train.capture.record import Refused

if TYPE_CHECKING:
    from loopwright.train.capture.cuda_graphs import CudaGraphs
    from loopwright.train.capture.moving import MovingUpdate

SLOTS, FEWEST = 64, 4
"""Batches that are put side by side, and how few are not worth it."""
BYTES = 64 << 20
"""That they may take."""


class Ring:
    """One graph of forward, backward and update.

    Args:
        graphs: records it.
        inputs: the memory of the batch from which ``train`` computes.
        train: launches a turn's kernels; returns what they made.
        like: three numbers of their type: the loss, the gradients' norm, one that is finite where both are.
        moving: the update, where its numbers are found in memory.

    Raises:
        Refused: batches are too large, or something cannot be recorded.
    """

    def __init__(
        self,
        graphs: CudaGraphs,
        inputs: Sequence[Tensor],
        train: Callable[[], Made],
        like: Tensor,
        moving: MovingUpdate | None,
    ):
        each = sum(tensor.numel() * tensor.element_size() for tensor in inputs)
        self._length = min(SLOTS, BYTES // max(1, each))
        if self._length < FEWEST:
            raise Refused("batches are too large to be put side by side")
        self._counter = torch.zeros(1, dtype=torch.int64, device=like.device)
        self._moving = moving
        targets = [tensor.detach() for tensor in inputs]
        if moving is not None:
            targets.append(moving.row)
        # pairs of what is read at the counter's place, and where the graph wants it
        self._slots = [
            (tensor.new_zeros((self._length, *tensor.shape)), tensor.unsqueeze(0))
            for tensor in targets
        ]
        self._results = like.new_empty((self._length, len(like)))
        with graphs.recorded() as graph:
            with torch.no_grad():
                for slots, target in self._slots:
                    torch.index_select(slots, 0, self._counter, out=target)
            made = train()  # not kept: only the graph reads what it makes
            assert made.joined is not None
            with torch.no_grad():
                self._results.index_copy_(0, self._counter, made.joined.unsqueeze(0))
                self._counter.add_(1)
        self._graph = graph

    def __call__(self, batches: Sequence[list[Tensor]], rows: Sequence[Sequence[float]]) -> Tensor:
        """Train on batches, an update for each row of numbers.

        Returns:
            A row for each: the loss, the gradients' norm, and a number that is finite where both are. It is
            made when the device comes to it.
        """
        found = []
        for first in range(0, len(batches), self._length):
            some = batches[first : first + self._length]
            self._counter.zero_()
            parts = [*zip(*map(unique, some), strict=True)]
            if self._moving is not None:
                parts.append(tuple(self._moving.rows(rows[first : first + len(some)])))
            for (slots, _), tensors in zip(self._slots, parts, strict=True):
                torch.stack(tensors, out=slots[: len(some)])
            for _ in some:
                self._graph.replay()
            found.append(self._results[: len(some)].clone())
        return torch.cat(found)
