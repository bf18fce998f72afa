"""Rows of a data set on a device: gathered on the host and sent, or taken from a copy that is there.

To gather and send 4 MiB of Fashion-MNIST keeps the host for some milliseconds, in which it launches nothing.
Where the whole data set is small beside the device's memory, a copy of it stays there once a quarter of it
was sent, and rows are gathered by the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from loopwright.train.data.transfer import Transfer

SENT = 0.25
"""Share of a data set that was sent before all of it is."""
GATHERED_HERE, GATHERED_THERE = 4 << 20, 16 << 20
"""Bytes that are gathered at once, by the host and by the device."""


class Rows:
    """Brings rows to one device, of one data set at a time.

    Args:
        transfer: to that device.
    """

    def __init__(self, transfer: Transfer):
        self._transfer = transfer
        self._begin(())

    def _begin(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tuple(tensors)
        self._sent = 0
        self._bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        self._copies: list[Tensor] = []
        self._versions: list[int] = []
        self._asked = False  # a copy is made once: of data that change it is of no use

    def forget(self) -> None:
        """Let the copy go."""
        self._begin(())

    @property
    def at_once(self) -> int:
        """Bytes that are best gathered at once."""
        return GATHERED_THERE if self._copies else GATHERED_HERE

    def __call__(self, tensors: Sequence[Tensor], indices: Sequence[Tensor]) -> list[Tensor]:
        """Return these rows of each tensor, on the device; ``Transfer.receive`` or ``hold`` waits for them.

        Args:
            tensors: of a data set, on the CPU, the rows along their first dimension.
            indices: of each, 1-d, int64, on the CPU; the same object where they are the same.
        """
        if len(tensors) != len(self._tensors) or any(
            one is not other for one, other in zip(tensors, self._tensors, strict=True)
        ):
            self._begin(tensors)
        if self._copies and [tensor._version for tensor in tensors] != self._versions:
            self._copies = []
        if not self._asked and self._sent >= SENT * self._bytes > 0:
            self._asked = True
            if self._bytes <= self._transfer.room():
                self._versions = [tensor._version for tensor in tensors]
                self._copies = self._transfer.copies(tensors)
        if self._copies and _are_rows(indices[0], min(map(len, tensors))):
            return self._transfer.gathered(self._copies, indices)
        rows = [
            tensor.index_select(0, index) for tensor, index in zip(tensors, indices, strict=True)
        ]
        self._sent += sum(part.numel() * part.element_size() for part in rows)
        return self._transfer.chunk(rows)


def _are_rows(index: Tensor, count: int) -> bool:
    """Whether all are there: the host says which is not, a device breaks down."""
    low, high = index.aminmax()
    return low.item() >= 0 and high.item() < count
