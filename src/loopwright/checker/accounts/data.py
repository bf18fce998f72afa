"""The data account: which loader, sampler and epoch, what repeats, what changes, what leaks."""

from __future__ import annotations

import random
import weakref
import zlib
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
)

from loopwright.checker.accounts.drawn import Drawn, state_of_generator
from loopwright.checker.accounts.gradients import Gradients
from loopwright.checker.accounts.tally import Tally
from loopwright.events import Event
from loopwright.observe import content, graph
from loopwright.observe.names import names_below
from loopwright.observe.sites import Site

TARGETS_LOOKED_AT = 256
INDICES = 1 << 18
"""Longer lists of indices are not compared."""
WHOLE = (SequentialSampler, RandomSampler)
"""Samplers that give every sample of their data set."""


class Loader:
    """One DataLoader, or all that were made from one data set at one place."""

    def __init__(self, loader: Any, site: Site):
        self.ref = weakref.ref(loader)
        self.sites = [site]
        self.kind = type(loader).__name__
        self.workers = loader.num_workers
        self.iterable = isinstance(loader.dataset, IterableDataset)
        sampler = sampler_of(loader)
        self.sampler = type(sampler).__name__
        self.sequential = isinstance(sampler, SequentialSampler)
        self.distributed = isinstance(sampler, DistributedSampler)
        self.shuffles = bool(getattr(sampler, "shuffle", False))
        self.random = self.shuffles or isinstance(sampler, RandomSampler)
        self.sampler_ref = weakref.ref(sampler)
        self.samples = samples_behind(loader, sampler)
        self.epochs = 0
        self.fetches = 0
        self.exhausted = 0
        self.trained = 0
        """Fetches after which a backward pass came."""
        self.single = 0
        """Iterators in a row that gave one batch and were dropped."""
        self.longest_single = 0
        self.fetched_now = 0
        self.waiting = False
        """A batch was fetched, and it is open whether it is trained on."""
        self.batches_per_epoch = 0
        self.epoch_numbers: list[int] = []
        self.sorted_targets: bool | None = None
        self._highest: float | None = None
        self._last: float | None = None
        self.classes: set[float] = set()
        self.looked = 0
        self.hashes: list[int] = []
        self.same_epochs = 0
        self.first_hash: int | None = None
        self.mutations = Tally()
        self.site_steps: dict[Site, int] = {}
        """Where it is iterated over -> batches that were trained on there."""
        self.site_samples: dict[Site, int] = {}
        """Where it is iterated over -> samples of the longest pass there."""
        self.site_epochs: dict[Site, int] = {}
        self.samples_now = 0
        self.states: set[int] = set()
        self.same_states = 0
        """Epochs that began with a generator state in which an earlier one had begun."""
        self.worker_generators = ""
        """The generator that the data set keeps and draws from, of which each worker gets a copy."""
        self.stacks = loader.batch_size is not None and loader.collate_fn is default_collate
        """Samples lie on the first axis of what it gives: torch itself puts them there."""
        self.rows = 0
        """Samples of the latest batch."""
        self.left_over = 0
        self.watched: list[tuple[str, weakref.ref[Any], int]] = []
        self.last_backwards = 0
        self.last_site = site
        self.worker_twins = 0
        self.size = 0


class Data:
    """The account; see the module."""

    def __init__(self, gradients: Gradients, drawn: Drawn):
        self.gradients = gradients
        self.drawn = drawn
        self.loaders: dict[int, Loader] = {}
        self._iterators: dict[int, tuple[weakref.ref[Any], Loader]] = {}
        self.current: Loader | None = None
        self.fetches = 0

    def after_epoch(self, event: Event) -> None:
        """A loader is iterated over."""
        if event.failed:
            return
        loader = event.subject
        entry = self.loaders.get(id(loader))
        if entry is None or entry.ref() is not loader:
            if len(self.loaders) > 512:
                return
            entry = self.loaders[id(loader)] = Loader(loader, event.site)
        if entry.fetched_now == 1 and entry.epochs:
            entry.single += 1
            entry.longest_single = max(entry.longest_single, entry.single)
        elif entry.fetched_now > 1:
            entry.single = 0
        self._settle(entry)
        entry.last_site = event.site
        entry.epochs += 1
        entry.site_epochs[event.site] = entry.site_epochs.get(event.site, 0) + 1
        entry.fetched_now = entry.samples_now = 0
        self._generator_state(entry)
        entry._highest = None
        entry.hashes = []
        try:
            entry.size = len(loader)
        except TypeError:
            entry.size = 0
        sampler = entry.sampler_ref()
        if entry.distributed and len(entry.epoch_numbers) < 4096:
            entry.epoch_numbers.append(int(sampler.epoch))  # type: ignore[union-attr]
        if event.site not in entry.sites and len(entry.sites) < 8:
            entry.sites.append(event.site)
        if event.result is not None:
            self._iterators[id(event.result)] = (_ref(event.result), entry)
            if len(self._iterators) > 64:
                self._iterators = {k: v for k, v in self._iterators.items() if v[0]() is not None}
        self._watch_data(entry, loader)
        if entry.workers > 1 and entry.epochs == 1:
            entry.worker_generators = copied_generator(loader.dataset, loader.worker_init_fn)

    def _generator_state(self, entry: Loader) -> None:
        """At the first epoch, and while some seed was set more than once (5 kB are hashed)."""
        if not entry.states or any(seen.count > 1 for _, seen in self.drawn.seeds.items()):
            state = state_of_generator()
            entry.same_states += state in entry.states
            entry.states.add(state)

    def _entry(self, iterator: Any) -> Loader | None:
        found = self._iterators.get(id(iterator))
        return found[1] if found is not None and found[0]() is iterator else None

    def before_fetch(self, event: Event) -> None:
        """Was the last batch trained on?"""
        entry = self._entry(event.subject)
        if entry is not None:
            self._settle(entry)
            self.current = entry

    def _settle(self, entry: Loader) -> None:
        if entry.waiting and self.gradients.backwards > entry.last_backwards:
            entry.trained += 1
            entry.site_steps[entry.last_site] = entry.site_steps.get(entry.last_site, 0) + 1
        entry.waiting = False

    def after_fetch(self, event: Event) -> None:
        """A batch, or the end of the epoch."""
        entry = self._entry(event.subject)
        if entry is None:
            return
        if event.failed:
            if entry.fetched_now or entry.size:
                entry.exhausted += 1
                entry.batches_per_epoch = entry.size or entry.fetched_now
                if entry.trained:
                    entry.left_over = max(entry.left_over, self.gradients.epoch_ended())
            return
        self.fetches += 1
        entry.fetches += 1
        entry.fetched_now += 1
        entry.waiting, entry.last_backwards = True, self.gradients.backwards
        entry.rows = samples_of(event.result)
        entry.samples_now += entry.rows
        longest = entry.site_samples.get(entry.last_site, 0)
        entry.site_samples[entry.last_site] = max(longest, entry.samples_now)
        if entry.fetched_now <= 2 or (
            entry.iterable and entry.fetched_now <= 2 * max(1, entry.workers)
        ):
            self._fingerprint(entry, event.result)
        if entry.sequential and entry.looked < TARGETS_LOOKED_AT and entry.epochs <= 1:
            self._targets(entry, event.result)
        self._mutations(entry, event)

    def _fingerprint(self, entry: Loader, batch: Any) -> None:
        digest = hash_of(batch)
        if digest is None:
            return
        if entry.iterable and entry.workers > 1 and digest in entry.hashes:
            entry.worker_twins += 1
        entry.hashes.append(digest)
        if entry.fetched_now == 1:
            if entry.first_hash is None:
                entry.first_hash = digest
            elif digest == entry.first_hash:
                entry.same_epochs += 1

    def _targets(self, entry: Loader, batch: Any) -> None:
        """Class labels that only ever rise from batch to batch: the data are sorted by class."""
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            return
        target = batch[-1]
        if (
            not isinstance(target, torch.Tensor)
            or target.is_floating_point()
            or target.dim() != 1
            or not target.numel()
        ):
            return
        entry.looked += 1
        with content.quiet():
            low, high = float(target.min()), float(target.max())
            rising = bool((target[1:] >= target[:-1]).all())
            entry.classes.update({low, high})
        previous = entry._highest
        fits = rising and (previous is None or low >= previous)
        entry.sorted_targets = (
            fits if entry.sorted_targets is None else entry.sorted_targets and fits
        )
        entry._highest = high

    def _watch_data(self, entry: Loader, loader: Any) -> None:
        if entry.workers or entry.epochs > 3:
            return
        entry.watched = []
        for name, value in list(getattr(loader.dataset, "__dict__", {}).items())[:32]:
            values = value if isinstance(value, (tuple, list)) else [value]
            for one in values[:8]:
                if isinstance(one, torch.Tensor) and content.readable(one):
                    entry.watched.append((name, weakref.ref(one), one._version))
                elif type(one).__module__ == "numpy" and hasattr(one, "shape") and one.size:
                    entry.watched.append((name, weakref.ref(one), _sum_of(one)))

    def _mutations(self, entry: Loader, event: Event) -> None:
        """Did the data set's own tensors change while this batch was made?"""
        if not entry.watched or entry.fetched_now > 8:
            return
        updated = []
        for name, ref, before in entry.watched:
            held = ref()
            if held is None:
                continue
            now = held._version if isinstance(held, torch.Tensor) else _sum_of(held)
            if now != before and entry.fetched_now > 1:
                seen = entry.mutations.add((name, min(entry.epochs, 2)), fetch=event.site)
                seen.facts["writes"] = now - before if isinstance(held, torch.Tensor) else 1
            updated.append((name, ref, now))
        entry.watched = updated


def _ref(value: Any) -> Any:
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value


def copied_generator(dataset: Any, init: Any = None) -> str:
    """A generator that a data set keeps and that its methods read; empty where there is none.

    Each worker begins with a copy of it. torch reseeds the global generators in workers, not these; the
    program's ``worker_init_fn`` may.
    """
    written = names_below(init, {"dataset"}) if init is not None else set()
    if "dataset" in written:
        return ""
    for name, value in list(getattr(dataset, "__dict__", {}).items()):
        kind = type(value)
        if not (kind.__module__.startswith("numpy.random") or kind is random.Random):
            continue
        if name in written:
            continue
        for cls in type(dataset).__mro__:
            for method, function in vars(cls).items():
                code = getattr(function, "__code__", None)
                if method != "__init__" and code is not None and name in code.co_names:
                    return f"self.{name}, a {kind.__name__}"
    return ""


def _sum_of(array: Any) -> int:
    """A number that changes when sampled elements of a numpy array do."""
    flat = array.reshape(-1)
    step = max(1, flat.size // 512)
    return zlib.crc32(flat[::step][:512].tobytes())


def sampler_of(loader: Any) -> Any:
    """What draws the samples: the batch sampler's own, also below one that shares batches out."""
    batches = loader.batch_sampler
    while isinstance(batches, BatchSampler):
        if hasattr(batches, "sampler"):
            return batches.sampler
        batches = getattr(batches, "batch_sampler", None)
    return loader.sampler


def samples_behind(loader: Any, sampler: Any) -> tuple[Any, ...] | None:
    """Which samples a loader can give: their source, and a number for the set of their indices.

    Two data sets that are made of the same tensors are one source. None for streams, and where nothing
    can be said.
    """
    dataset, chosen = loader.dataset, getattr(sampler, "indices", None)
    if isinstance(dataset, IterableDataset) or (chosen is not None and len(chosen) > INDICES):
        return None
    indices = None if chosen is None else [int(one) for one in chosen]
    while isinstance(dataset, Subset):
        above = dataset.indices
        if len(above) > INDICES:
            return None
        indices = [int(above[one]) for one in (range(len(above)) if indices is None else indices)]
        dataset = dataset.dataset
    source: Any = id(dataset)
    if type(dataset) is TensorDataset:
        source = tuple(
            (graph.storage_pointer(t), t.storage_offset(), tuple(t.shape)) for t in dataset.tensors
        )
    if indices is None and chosen is None and type(sampler) not in WHOLE:
        return None  # a sampler of the program's own, or one that weighs, may leave some out
    return source, None if indices is None else zlib.crc32(str(sorted(set(indices))).encode())


def samples_of(batch: Any) -> int:
    """How many samples a batch has: the first dimension of its first tensor; 0 where it has none."""
    while isinstance(batch, (tuple, list, dict)) and batch:
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    return len(batch) if isinstance(batch, torch.Tensor) and batch.dim() else 0


def hash_of(batch: Any) -> int | None:
    """A number for a batch's values (sampled); None where it holds no tensor."""
    if isinstance(batch, dict):
        batch = list(batch.values())
    if isinstance(batch, torch.Tensor):
        batch = [batch]
    if not isinstance(batch, (tuple, list)):
        return None
    digest = found = 0
    for one in batch[:8]:
        if isinstance(one, torch.Tensor) and content.readable(one) and one.device.type == "cpu":
            taken = content.sample(one, 256)
            digest = zlib.crc32(repr(tuple(one.shape)).encode() + bytes_of(taken), digest)
            found += 1
    return digest if found else None


def bytes_of(tensor: torch.Tensor) -> bytes:
    """The raw values of a small tensor."""
    with content.quiet():
        return bytes(tensor.cpu().contiguous().view(torch.uint8).tolist())
