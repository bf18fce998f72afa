"""What a change would save, tried on copies while the program stands still: it never sees them.

Two ways to do the same are timed in turn, in one process, and their results compared; a way counts as faster
only where its slow quarter is below the other's fast quarter.
"""

from __future__ import annotations

import contextlib
import inspect
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch.utils.data import BatchSampler, Dataset, Subset, TensorDataset, default_collate

from loopwright.explainer.effects import values
from loopwright.explainer.follow.turns import LoopRecord

ROUNDS = 11
LIMIT_S = 0.4
"""For one comparison, after the third round."""
TENSORS = 3
"""Copies that a step with an optimizer needs beside each parameter: gradient, and state of two ways."""


@dataclass(slots=True)
class Tried:
    """Two ways to do the same."""

    before: float
    """Seconds, the median."""
    after: float
    faster: bool
    """By more than chance."""
    way: str = ""
    share: float = 1.0
    """Of the numbers concerned that were tried; seconds are scaled to all of them."""
    bytes: int = 0
    numbers: int = 0
    """That an optimizer updates; it may be gone when it is told of."""


@dataclass(slots=True)
class Data:
    """Where a loop's batches come from."""

    dataset: weakref.ref[Any] | None
    batch_size: int
    workers: int
    collates: bool
    """By torch's own function."""
    sampler: str
    drop_last: bool
    bytes: int | None
    """Of all of it; None where it is not in memory as tensors."""


def data_of(iterator: Any) -> Data | None:
    """What is known of a DataLoader's iterator; nothing of it is kept alive."""
    dataset = getattr(iterator, "_dataset", None)
    held = None
    with contextlib.suppress(TypeError):  # a list cannot be referred to weakly
        held = weakref.ref(dataset)
    batches = getattr(iterator, "_index_sampler", None)
    if type(batches) is not BatchSampler:
        return None
    collates = getattr(iterator, "_collate_fn", None) is default_collate
    tensors = in_memory(dataset)
    size = None if tensors is None else sum(values.bytes_of(one) for one in tensors)
    return Data(
        held, batches.batch_size, getattr(iterator, "_num_workers", 0), collates,
        type(batches.sampler).__name__, batches.drop_last, size,
    )  # fmt: skip


def in_memory(dataset: Any) -> list[torch.Tensor] | None:
    """The tensors that a data set takes its samples from; None where it computes them."""
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return list(dataset.tensors) if type(dataset) is TensorDataset else None


class Tries:
    """Tries what might be faster, once for each loop, when it has been timed."""

    def __init__(self, recording: Any):
        self.recording = recording

    def measure(self, record: LoopRecord) -> None:
        """Try everything that concerns a loop."""
        recording = self.recording
        if record.tried is not None or not record.steps or not record.timed or recording.over:
            return
        record.tried = {}
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return  # other ranks would wait
        with recording.aside():
            try:
                record.tried.update(self._all(record))
            except Exception as error:  # noqa: BLE001  the program's own optimizers and data sets
                recording.notes.append(
                    f"what would be faster could not be tried ({type(error).__name__}: {error})"
                )

    def _all(self, record: LoopRecord) -> Iterator[tuple[str, Tried]]:
        for ref, name in record.optimizers:
            optimizer = ref()
            if optimizer is not None:
                found = step(optimizer, self.recording.budget)
                if found is not None:
                    yield f"step {name}", found
                found = zeroing(optimizer, self.recording.budget)
                if found is not None:
                    yield f"zero_grad {name}", found
        found = pinning(*self._loads(record))
        if found is not None:
            yield "transfer", found
        data = record.data
        dataset = data.dataset() if data is not None and data.dataset is not None else None
        if dataset is not None and data.collates and in_memory(dataset) is not None:
            found = fetching(dataset, data.batch_size)
            if found is not None:
                yield "fetch", found

    def _loads(self, record: LoopRecord) -> tuple[list[int], str]:
        """Bytes of what the last recorded turn copied to a GPU out of ordinary memory, and which GPU."""
        turns = [one for one in self.recording.kept if one.record is record][-1:]
        events = [event for turn in turns for visit in turn.everything() for event in visit.events]
        loads = [
            event.facts for event in events
            if event.kind == "transfer" and event.facts.get("copied") and event.facts.get("bytes")
            and event.facts.get("pinned") is False  # known where a GPU is in use
            and event.facts["device"] != event.facts["from_device"] == "cpu"
        ]  # fmt: skip
        return [one["bytes"] for one in loads], loads[0]["device"] if loads else ""


def compare(now: Callable[[], Any], other: Callable[[], Any]) -> tuple[float, float, bool]:
    """Median seconds of both, taken in turn, and whether the other is faster by more than chance."""
    for function in (now, now, other, other):
        function()
    times: tuple[list[float], list[float]] = ([], [])
    began = time.perf_counter()
    while len(times[0]) < ROUNDS and (len(times[0]) < 3 or time.perf_counter() - began < LIMIT_S):
        for function, found in zip((now, other), times, strict=True):
            _settle()
            start = time.perf_counter()
            function()
            _settle()
            found.append(time.perf_counter() - start)
    slow, fast = sorted(times[0]), sorted(times[1])
    sure = fast[len(fast) * 3 // 4] < slow[len(slow) // 4]
    return median(times[0]), median(times[1]), sure


def _settle() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def step(optimizer: Any, budget: int) -> Tried | None:
    """One step with all parameters in one kernel, or in few, against a step as it is."""
    kind = type(optimizer)
    names = inspect.signature(kind.__init__).parameters
    ways = [
        way
        for way in ("fused", "foreach")
        if way in names and kind.__module__.startswith("torch.optim")
    ]
    groups = optimizer.param_groups
    if not ways or any(
        group.get("fused") or group.get("capturable") or group.get("differentiable")
        for group in groups
    ):
        return None
    chosen = [
        [p for p in group["params"] if isinstance(p, torch.Tensor) and _plain(p)]
        for group in groups
    ]
    every = [p for found in chosen for p in found]
    chosen, share = _within(chosen, budget // (2 * (1 + TENSORS)))
    if not every or len(every) != sum(len(group["params"]) for group in groups) or not share:
        return None
    best: Tried | None = None
    numbers = sum(p.numel() for p in every)
    for way in ways:
        one = _stepper(kind, groups, chosen, {})
        other = _stepper(
            kind, groups, chosen, {"fused": way == "fused", "foreach": way == "foreach"}
        )
        before, after, faster = compare(one, other)
        tried = Tried(before / share, after / share, faster, way, share, numbers=numbers)
        if faster and (best is None or tried.after < best.after):
            best = tried
    return best


def _stepper(
    kind: type,
    groups: Sequence[dict[str, Any]],
    chosen: list[list[torch.Tensor]],
    way: dict[str, bool],
) -> Callable[[], Any]:
    """A step of a new optimizer of the same settings on copies; no hook of the program's is called."""
    made = []
    for group, parameters in zip(groups, chosen, strict=True):
        copies = []
        for p in parameters:
            copy = p.detach().clone().requires_grad_(True)
            copy.grad = torch.full_like(copy, 1e-3) if p.grad is None else p.grad.detach().clone()
            copies.append(copy)
        settings = {key: _copied(value) for key, value in group.items() if key != "params"}
        made.append(
            {**settings, **{key: on for key, on in way.items() if key in group}, "params": copies}
        )
    optimizer = kind([one for one in made if one["params"]])
    function = getattr(kind.step, "__wrapped__", kind.step)  # type: ignore[attr-defined]
    return lambda: function(optimizer)


def zeroing(optimizer: Any, budget: int) -> Tried | None:
    """Gradients set to 0 and added to, against gradients that are simply there."""
    held = [
        p for group in optimizer.param_groups for p in group["params"]
        if isinstance(p, torch.Tensor) and _plain(p)
    ]  # fmt: skip
    (held, *_), share = _within([held], budget // 2)
    if not held or not share:
        return None
    grads = [torch.zeros_like(p) for p in held]
    new = [torch.zeros_like(p) for p in held]

    def clear_and_add() -> None:
        for grad, one in zip(grads, new, strict=True):
            grad.zero_()
            grad.add_(one)

    def take() -> list[torch.Tensor]:
        return list(new)

    before, after, faster = compare(clear_and_add, take)
    return Tried(before / share, after / share, faster, share=share)


def pinning(loads: list[int], device: str) -> Tried | None:
    """Copies to the GPU out of pinned memory, against copies out of ordinary memory."""
    if not loads:
        return None
    ordinary = [torch.zeros(size, dtype=torch.uint8) for size in loads]
    pinned = [one.pin_memory() for one in ordinary]

    def wait_for_each() -> Any:
        return [one.to(device) for one in ordinary]

    def queue_each() -> Any:
        return [one.to(device, non_blocking=True) for one in pinned]

    before, after, faster = compare(wait_for_each, queue_each)
    return Tried(before, after, faster, bytes=sum(loads))


def fetching(dataset: Dataset[Any], batch_size: int) -> Tried | None:
    """A batch by one index of all its samples, against one sample after another."""
    count = len(dataset)  # type: ignore[arg-type]
    size = min(batch_size, count)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(count, generator=generator)[:size].tolist()

    def one_by_one() -> Any:
        return default_collate([dataset[index] for index in chosen])

    def at_once() -> Any:
        return dataset[chosen]  # type: ignore[index]  # TensorDataset and Subset take a list

    if not all(torch.equal(a, b) for a, b in zip(one_by_one(), at_once(), strict=True)):
        return None
    before, after, faster = compare(one_by_one, at_once)
    return Tried(before, after, faster)


def _plain(parameter: torch.Tensor) -> bool:
    return (
        type(parameter) in (torch.Tensor, torch.nn.Parameter) and parameter.layout == torch.strided
    )


def _within(
    chosen: list[list[torch.Tensor]], budget: int
) -> tuple[list[list[torch.Tensor]], float]:
    """As many parameters as fit, evenly spread, and which share of all numbers they are."""
    total = sum(values.bytes_of(p) for group in chosen for p in group)
    numbers = sum(p.numel() for group in chosen for p in group)
    every = max(1, -(-total // max(1, budget)))
    kept = [[p for p in group[::every] if values.bytes_of(p) <= budget] for group in chosen]
    size = sum(values.bytes_of(p) for group in kept for p in group)
    if size > 2 * budget or not numbers:
        return kept, 0.0
    return kept, sum(p.numel() for group in kept for p in group) / numbers


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value
