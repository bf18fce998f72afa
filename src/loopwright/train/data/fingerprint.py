"""What tells one data set from another: kind, length, the rows of a split, a few of its items.

A run that goes on with other data than it began with has trained on a mixture that nobody asked for.
The usual cause is ``random_split`` without a generator, which splits anew in each process.
"""

from __future__ import annotations

import dataclasses
import random
import warnings
import zlib
from array import array
from collections.abc import Mapping, Sized
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from loopwright.errors import LoopwrightWarning
from loopwright.train.data.own_state import OwnState
from loopwright.train.data.source import Source
from loopwright.train.process import randomness

ITEMS = 4
BYTES = 4096
"""Of each array of an item."""
SECONDS = 0.5
"""No further item is asked for once this much time has gone."""


def describe(source: Source) -> dict[str, Any]:
    """Return plain facts about a loop's data, one name a fact."""
    loader = source.given
    dataset = getattr(loader, "dataset", None)
    facts: dict[str, Any] = {"loader": type(loader).__name__, "batches": source.given_length}
    if isinstance(loader, DataLoader):
        facts["batch_size"] = loader.batch_size
        facts |= _order(loader)
        facts["workers"] = loader.num_workers
    if dataset is not None:
        facts["dataset"] = type(dataset).__name__
        if isinstance(dataset, Sized) and not isinstance(dataset, IterableDataset):
            facts["samples"] = len(dataset)
            facts |= _rows(dataset)
            if _may_be_asked(loader, dataset):
                facts |= _items(dataset)
    return facts


def comparable(then: dict[str, Any], now: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both without the sums that only one of them has: items are not always asked for."""
    sums = {"items", "split", "weights"}
    left_out = sums - (then.keys() & now.keys()) | {"workers"}
    return (
        {name: value for name, value in then.items() if name not in left_out},
        {name: value for name, value in now.items() if name not in left_out},
    )


def warn_of_other_workers(then: dict[str, Any], now: dict[str, Any]) -> None:
    """Warn that data which may draw have other workers: each has generators of its own."""
    before, after = then.get("workers"), now.get("workers")
    if before == after or None in (before, after) or "items" in then.keys() | now.keys():
        return
    warnings.warn(
        f"resumed with {after} workers instead of {before}: where the data draw at random, the bits may "
        "differ from an uninterrupted run  [resumed-elsewhere]",
        LoopwrightWarning,
        stacklevel=2,
    )


def likely_cause(then: dict[str, Any], now: dict[str, Any]) -> str:
    """Return what most often makes such a difference, for a hint; "" where nothing is likely."""
    differ = {name for name in then if then[name] != now.get(name)}
    if differ <= {"split", "items"} and "split" in differ:
        return (
            "random_split without a generator splits anew in each process: give it "
            "torch.Generator().manual_seed(0). Otherwise "
        )
    if differ == {"items"}:
        return "the content of the data has changed. Otherwise "
    return ""


def _order(loader: DataLoader[Any]) -> dict[str, Any]:
    """Return what makes the order: the sampler's kind, and how it is set up."""
    batches = loader.batch_sampler
    if type(batches) not in (BatchSampler, type(None)):
        return {"sampler": type(batches).__name__}
    sampler = loader.sampler
    facts: dict[str, Any] = {"sampler": type(sampler).__name__}
    if isinstance(sampler, (RandomSampler, WeightedRandomSampler)):
        facts["replacement"], facts["num_samples"] = sampler.replacement, sampler.num_samples
        facts["generator"] = "the process's" if sampler.generator is None else "its own"
    if isinstance(sampler, WeightedRandomSampler):
        facts["weights"] = f"{zlib.crc32(sampler.weights.double().numpy().tobytes()):08x}"
    return facts


def _may_be_asked(loader: Any, dataset: Any) -> bool:
    """Whether an item may be fetched in this process.

    Where workers load, a data set of the user's might open a file that must not be open when they are
    forked.
    """
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    workers = loader.num_workers if isinstance(loader, DataLoader) else 0
    return workers == 0 or isinstance(dataset, (TensorDataset, list))


def _rows(dataset: Any) -> dict[str, Any]:
    """Return a sum over the indices of a ``Subset``, and of the subsets below it."""
    total, found = 0, False
    while isinstance(dataset, Subset):
        found = True
        try:
            total = zlib.crc32(array("q", dataset.indices), total)
        except TypeError:
            total = zlib.crc32(repr(list(dataset.indices)).encode(), total)
        dataset = dataset.dataset
    return {"split": f"{total:08x}"} if found else {}


def _items(dataset: Any) -> dict[str, Any]:
    """Return a sum over a few items where they are the same each time they are asked for."""
    count = len(dataset)
    started = perf_counter()
    total = 0
    with randomness.fork(), OwnState(dataset=dataset).forked():
        for index in sorted({0, count // 3, (2 * count) // 3, count - 1})[:ITEMS]:
            try:
                sums = []
                for seed in (1, 2):
                    _seed(seed)
                    sums.append(_sum(dataset[index]))
            except Exception:  # noqa: BLE001 - training will meet it, and say where
                return {}
            if sums[0] is None or sums[0] != sums[1]:
                return {}  # augmented at random, or of a kind that has no bytes
            total = zlib.crc32(repr(sums[0]).encode(), total)
            if perf_counter() - started > SECONDS:
                return {}
    return {"items": f"{total:08x}"}


def _seed(seed: int) -> None:
    """Seed the host's generators; ``torch.manual_seed`` would seed every device's too."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the process's own
    torch.default_generator.manual_seed(seed)


def _sum(item: Any) -> Any:
    """Return numbers that stand for an item's content; None where it has parts of an unknown kind."""
    if isinstance(item, torch.Tensor):
        if item.layout != torch.strided or item.is_quantized or item.device.type != "cpu":
            return None
        flat = item.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
        # A copy: numpy() makes the memory of a user's tensor one that torch can't resize any more.
        raw = flat[: BYTES // flat.element_size()].clone().view(torch.uint8).numpy()
        return [str(item.dtype), list(item.shape), zlib.crc32(raw.data)]
    if isinstance(item, np.ndarray | np.generic):
        if item.dtype.hasobject:
            return None
        flat = np.ascontiguousarray(item).reshape(-1)
        return [str(item.dtype), list(item.shape), zlib.crc32(flat.tobytes()[:BYTES])]
    if item is None or isinstance(item, (bool, int, float, complex, str, bytes)):
        return zlib.crc32(repr(item).encode())
    if isinstance(item, Mapping):
        parts = [[repr(key), _sum(value)] for key, value in item.items()]
        return None if any(part is None for _, part in parts) else parts
    if isinstance(item, (tuple, list)):
        parts = [_sum(part) for part in item]
        return None if any(part is None for part in parts) else parts
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return _sum({f.name: getattr(item, f.name) for f in dataclasses.fields(item)})
    return None
