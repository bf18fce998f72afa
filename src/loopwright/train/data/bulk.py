"""Many batches in one gather instead of sample by sample, in the DataLoader's own order.

For a ``TensorDataset`` (also behind ``Subset``, as ``random_split`` makes them) in the main process,
with torch's own collating. The tensors may be memory maps and views: windows of a text that overlap are
gathered 12 times as fast as one by one. The sampler and its draws stay the DataLoader's; a batch is the same
tensors, bit for bit, in the same list. On the digits with batches of 32 a fetch costs 12 µs instead
of 110, and 3 where the batches of 1 MiB are gathered at once.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain, islice, repeat
from math import gcd
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, TensorDataset
from torch.utils.data._utils.collate import default_collate

if TYPE_CHECKING:
    from loopwright.train.data.permutation import Permutation
    from loopwright.train.data.rows import Rows

Indices = list[int] | memoryview
"""Of a batch's samples."""

CHUNK = 1 << 20
"""Bytes that are gathered at once: on a CPU they stay in a core's cache until they are used."""
ALIGNED = 256
"""Bytes. Kernels may add up in another order where memory begins elsewhere: a batch that is a part of a
chunk begins where memory of its own would, as far as kernels ask (64 on a CPU, 256 in cuBLAS). Between two
there are rows that nobody uses, where a batch is no multiple of that: 16 labels are 128 bytes."""
FEW = 4096
"""Bytes that a batch may take, however few of them are its own; else half must be."""


class Gather:
    """Stands in for a single-process iterator's fetcher.

    Attributes:
        numbers: the indices of the batch that was fetched last, side by side; None where they are not.
    """

    def __init__(self, dataset: TensorDataset, rows: Tensor | None):
        self._dataset = dataset
        self._tensors = dataset.tensors
        self._rows = rows
        self._ready: deque[tuple[Indices, list[Tensor], memoryview | None]] = deque()
        self.numbers: memoryview | None = None
        self._prepared: tuple[Tensor, ...] = ()
        self._size = 0
        # Of each tensor a batch's rows, and how many there are up to the next one's.
        self._places: list[tuple[int, int]] = []
        self._versions: list[int] = []
        # Memory that torch does not own (numpy's) may be written to without torch's knowing.
        self._owned = all(tensor.untyped_storage().resizable() for tensor in self._tensors)

    def fetch(self, indices: Indices) -> list[Tensor]:
        """Return the batch of these samples."""
        self.numbers = None
        if self._ready and self._ready[0][0] is indices:
            _, batch, self.numbers = self._ready.popleft()
            if self._are_current():
                return batch
        if isinstance(indices, memoryview):
            self.numbers = indices
            return self._gathered(torch.frombuffer(indices, dtype=torch.int64))
        return self._gathered(_as_tensor(indices, _as_array(indices)))

    def ready(self) -> list[list[Tensor]]:
        """Return the batches that are gathered already and are still what the data set has."""
        return [batch for _, batch, _ in self._ready] if self._are_current() else []

    def _are_current(self) -> bool:
        """Whether what is gathered is what the data set has now."""
        now = self._dataset.tensors
        return now is self._prepared and self._versions == [tensor._version for tensor in now]

    def _gathered(
        self, index: Tensor, there: Rows | None = None, *, size: int | None = None
    ) -> list[Tensor]:
        """Gather the rows of a batch, or of several of a ``size``, which then begin on lines of memory."""
        self._tensors = self._dataset.tensors  # others, where the program has put them there
        if self._rows is not None:
            index = self._rows[index]
        indices = [index] * len(self._tensors)
        if size is not None:
            self._places = [(size, _apart(size, _bytes_of(tensor))) for tensor in self._tensors]
            spread = {place: _spread(index, *place) for place in self._places}
            indices = [spread[place] for place in self._places]
        if there is not None:
            return there(self._tensors, indices)
        # The same rows as tensor[index], 2 to 30 times as fast: whole rows are copied.
        return [
            tensor.index_select(0, index.to(tensor.device))
            for tensor, index in zip(self._tensors, indices, strict=True)
        ]

    def ahead(self, inner: Iterator[list[int]], there: Rows | None = None) -> Iterator[list[int]]:
        """Pass index batches on; those of a chunk are taken, and their samples gathered, at once.

        A batch whose data set was written to since is gathered once more.

        Args:
            inner: taking its next one draws nothing.
            there: brings a chunk's rows to a device.
        """
        first = next(inner, None)
        if first is None:
            return
        there = self._from(there)
        count = self._counter(len(first), there)
        inner = chain([first], inner)
        if count() == 1:
            yield from inner
            return
        while lists := list(islice(inner, count())):
            flat = list(chain.from_iterable(lists))
            side_by_side = _as_array(flat)
            parts = [len(some) for some in lists]
            numbers = None if side_by_side is None else _cut(side_by_side, parts)
            self._prepare(lists, numbers, _as_tensor(flat, side_by_side), there)
            yield from lists

    def along(
        self, order: Permutation, first: int, there: Rows | None = None
    ) -> Iterator[memoryview]:
        """Yield the index batches of an order; the samples of a chunk are gathered at once.

        Args:
            order: of the epoch.
            first: the number of the first batch.
            there: brings a chunk's rows to a device.
        """
        there = self._from(there)
        count = self._counter(order.size, there)

        def prepare(parts: list[memoryview], index: Tensor) -> None:
            if len(parts) > 1:
                self._prepare(parts, parts, index, there)

        return order.batches(first, count, prepare)

    def _from(self, there: Rows | None) -> Rows | None:
        """Return what brings rows to a device, None where the user keeps them on one."""
        return there if all(tensor.device.type == "cpu" for tensor in self._tensors) else None

    def _counter(self, size: int, there: Rows | None) -> Callable[[], int]:
        """Return what says how many batches are gathered at once, one for singly."""
        self._size, rows = size, [_bytes_of(tensor) for tensor in self._tensors]
        least = size * sum(rows)
        each = max(1, sum(row * _apart(size, row) for row in rows))
        if not self._owned or each > max(2 * least, FEW):
            return lambda: 1
        return lambda: max(1, (CHUNK if there is None else there.at_once) // each)

    def _prepare(
        self,
        batches: Sequence[Indices],
        numbers: Sequence[memoryview] | None,
        index: Tensor,
        there: Rows | None,
    ) -> None:
        """Gather batches that follow one another."""
        whole = self._gathered(index, there, size=self._size)
        self._prepared = self._tensors
        self._versions = [tensor._version for tensor in self._prepared]
        # Not split: its parts share one count of writes, and who writes to a batch in place would be told
        # that he has written to another one, too. It takes 27 µs for 20 batches of two tensors, this 12.
        split = [
            _split(tensor, len(batches), len(batches[-1]), *place)
            for tensor, place in zip(whole, self._places, strict=True)
        ]
        made = map(list, zip(*split, strict=True))
        self._ready = deque(zip(batches, made, numbers or repeat(None, len(batches)), strict=True))

    def pass_over(self, count: int) -> None:
        """Let go of as many of the ``ready`` batches."""
        for _ in range(count):
            self._ready.popleft()


def _as_array(indices: list[int]) -> array[int] | None:
    """Return indices side by side; None where they are other things than numbers, or none at all."""
    try:
        return array("q", indices) or None
    except (TypeError, OverflowError):
        return None


def _as_tensor(indices: list[int], numbers: array[int] | None) -> Tensor:
    if numbers is None:
        return torch.tensor(indices)
    return torch.frombuffer(numbers, dtype=torch.int64)  # 27 µs for 1,797; torch.tensor takes 190


def _cut(numbers: array[int], sizes: list[int]) -> list[memoryview]:
    whole = memoryview(numbers)
    return [whole[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]


def _apart(size: int, each: int) -> int:
    """Return how many rows of so many bytes lie between two beginnings of batches that are aligned."""
    rows = ALIGNED // gcd(each, ALIGNED)
    return -(-size // rows) * rows


def _spread(index: Tensor, size: int, apart: int) -> Tensor:
    """Return the indices of batches with others between them, of a row that is not used."""
    if size == apart or len(index) <= size:
        return index
    whole = len(index) // size
    spread = index.new_zeros((whole, apart))
    spread[:, :size] = index[: whole * size].view(whole, size)
    return torch.cat([spread.flatten(), index[whole * size :]])


def _split(tensor: Tensor, count: int, last: int, size: int, apart: int) -> Sequence[Tensor]:
    """Return the batches in what `_spread` indices have gathered; the last one may be shorter."""
    if size == apart or count == 1:
        return torch.unsafe_split_with_sizes(tensor, [size] * (count - 1) + [last])
    sizes = [size, apart - size] * (count - 1) + [last]
    if last == size:
        sizes.append(apart - size)
    return torch.unsafe_split_with_sizes(tensor, sizes)[::2]


def _bytes_of(tensor: Tensor) -> int:
    return tensor.element_size() * (tensor[0].numel() if len(tensor) else 0)


def gather_in_bulk(loader: Any, iterator: Any) -> None:
    """Let ``iterator`` of ``loader`` gather whole batches, where that gives the same batches."""
    if (
        type(loader) is not DataLoader
        or type(iterator).__name__ != "_SingleProcessDataLoaderIter"
        or loader.batch_size is None
        or loader.collate_fn is not default_collate
        or not hasattr(iterator, "_dataset_fetcher")
    ):
        return
    found = _tensors(loader.dataset)
    if found is not None:
        iterator._dataset_fetcher = Gather(*found)


def in_memory(loader: Any) -> bool:
    """Whether a loader's samples are tensors in memory, which no worker brings any faster."""
    return isinstance(loader, DataLoader) and _tensors(loader.dataset) is not None


def _tensors(dataset: Any) -> tuple[TensorDataset, Tensor | None] | None:
    """Return the tensors under a data set and the rows that it is made of; None for other kinds."""
    rows: Tensor | None = None
    while type(dataset) is Subset:
        inner = torch.as_tensor(list(dataset.indices), dtype=torch.int64)
        rows = inner if rows is None else inner[rows]
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset:
        return None
    return (dataset, rows) if all(map(_is_plain, dataset.tensors)) else None


def _is_plain(tensor: Tensor) -> bool:
    return type(tensor) is Tensor and tensor.layout == torch.strided and not tensor.requires_grad
