"""DataLoader workers whose generators can be saved and put back, and batches that start in the middle.

A worker draws its augmentation from generators of its own, which die with it. So each batch brings the
worker's generator states along if they have moved (25 µs in the worker, 10 kB through the pipe; nothing
where nobody draws), and a resumed loader gives them to its new workers. Batch number i always comes
from worker i modulo their number, so the workers keep their roles.
"""

from __future__ import annotations

import gc
import itertools
import random
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data._utils import signal_handling
from torch.utils.data._utils.pin_memory import pin_memory
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from loopwright.train.data.own_state import OwnState
from loopwright.train.process import randomness


class Reported:
    """A batch with the generator states of the worker that made it, None where they have not moved."""

    __slots__ = ("batch", "state")

    def __init__(self, batch: Any, state: Any):
        self.batch = batch
        self.state = state

    def pin_memory(self) -> Reported:
        """Pin the batch: torch asks every object that it does not know."""
        return Reported(pin_memory(self.batch), self.state)


class Reporting:
    """The user's ``collate_fn``, with a report behind each batch; runs in the worker."""

    def __init__(self, collate: Callable[[Any], Any]):
        self.collate = collate
        self.own: OwnState | None = None
        self._sent: Any = None

    def __call__(self, samples: Any) -> Any:
        """Collate, and say where the generators are."""
        batch = self.collate(samples)
        if self.own is None:  # not in a worker of ours
            return batch
        state = (_pack(), self.own.capture())
        if _same(state, self._sent):
            return Reported(batch, None)
        self._sent = state
        return Reported(batch, state)


class Start:
    """The user's ``worker_init_fn``, followed by the generator states of an earlier process."""

    def __init__(
        self, init: Callable[[int], Any] | None, reporting: Reporting, states: Mapping[int, Any]
    ):
        self._init = init
        self._reporting = (
            reporting  # the worker's fetcher has this very object, also when it was pickled
        )
        self._states = states

    def __call__(self, worker: int) -> None:
        """Initialise worker number ``worker``."""
        if self._init is not None:
            self._init(worker)
        info = get_worker_info()
        assert info is not None
        own = OwnState(dataset=info.dataset, collate_fn=self._reporting.collate)
        if worker in self._states:
            packed, state = self._states[worker]
            own.restore(state)
            _unpack(packed)
        self._reporting.own = own


class Workers(_MultiProcessingDataLoaderIter):
    """torch's own iterator, whose workers report, may begin with given states, and wait for ``begin``.

    Args:
        loader: with ``num_workers`` above 0.
        states: by worker, as they were reported.

    Attributes:
        states: what each worker reported with the last of its batches that was handed out.
    """

    def __init__(self, loader: DataLoader[Any], states: Mapping[int, Any]):
        self.states = dict(states)
        self._waits = True
        with reporting(loader, states):
            super().__init__(loader)

    def restart(self, loader: DataLoader[Any]) -> None:
        """Begin another epoch with the same workers; ``begin`` starts the fetching."""
        self._waits = True
        self._reset(loader)

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        if not self._waits:  # somebody else's `for` over a loader with persistent workers
            super()._reset(loader, first_iter)
            return
        sampler, self._index_sampler = self._index_sampler, ()  # nothing to fetch, as yet
        try:
            super()._reset(loader, first_iter)
        finally:
            self._index_sampler = sampler

    def begin(self, wrap: Callable[[Iterator[Any]], Iterator[Any]], position: int = 0) -> None:
        """Start fetching batch number ``position``, the first that the wrapped sampler gives."""
        self._waits = False
        self._sampler_iter = wrap(iter(self._index_sampler))
        self._num_yielded = position
        workers = range(self._num_workers)
        first = position % self._num_workers
        self._worker_queue_idx_cycle = itertools.cycle([*workers[first:], *workers[:first]])
        for _ in range(self._prefetch_factor * self._num_workers):
            self._try_put_index()

    def drain(self) -> dict[int, Any]:
        """Wait for the batches that are under way and drop them; return what the workers are left with.

        A loop that ends inside an epoch has fetched ahead, and persistent workers go on from there.
        """
        left = dict(self.states)
        for worker, data in outstanding(self):
            if isinstance(data, Reported) and data.state is not None:
                left[worker] = data.state
        self.states = dict(left)
        return left

    def _process_data(self, data: Any, worker_idx: int) -> Any:
        data = super()._process_data(data, worker_idx)
        if not isinstance(data, Reported):
            return data
        if data.state is not None:
            self.states[worker_idx] = data.state
        return data.batch


def outstanding(iterator: Any) -> Iterator[tuple[int, Any]]:
    """Wait for the batches that an iterator's workers have under way, and give them with their workers."""
    found = {task: info for task, info in iterator._task_info.items() if len(info) == 2}
    while iterator._tasks_outstanding > 0:
        task, data = iterator._get_data()
        iterator._tasks_outstanding -= 1
        if task in iterator._task_info:
            found[task] = (iterator._task_info[task][0], data)
    iterator._task_info = {}
    for _, info in sorted(found.items(), key=lambda item: item[0]):
        yield info


_LEFT: WeakKeyDictionary[DataLoader[Any], dict[int, Any]] = WeakKeyDictionary()
"""Loaders whose persistent workers an earlier process had, with what those reported last."""


@contextmanager
def garbage_stays() -> Iterator[None]:
    """Have processes that are forked inside leave this process's objects alone.

    A collection in a worker would otherwise free tensors of the GPU that have become garbage here, and
    freeing one that was used on several streams calls the driver, which a forked process may not: it is
    aborted (torch 2.11: "initialization error" in ``CUDACachingAllocator``).
    """
    if not torch.cuda.is_initialized():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def iterator_of(loader: Any) -> Any:
    """Return ``iter(loader)``; what workers it forks are safe."""
    with garbage_stays():
        return iter(loader)


def start(loader: DataLoader[Any], states: Mapping[int, Any] | None = None) -> Any:
    """Return the iterator of a new epoch: its persistent workers begin again, or new ones are made.

    What is returned waits for ``begin``, unless somebody else has started the persistent workers.

    Args:
        loader: with ``num_workers`` above 0.
        states: the generators that new workers begin with; None: where their seeds put them.
    """
    if isinstance(loader._iterator, Workers):
        loader._iterator.restart(loader)
        return loader._iterator
    if loader._iterator is not None:
        return iter(loader)  # they are there already
    loader.check_worker_number_rationality()
    if states is None and loader in _LEFT:
        # The process that ended the loop before had them: there nothing was drawn to make them.
        with randomness.fork(), OwnState(loader=loader).forked(), garbage_stays():
            iterator = Workers(loader, _LEFT.pop(loader))
    else:
        with garbage_stays():
            iterator = Workers(loader, states or {})
    if loader.persistent_workers:
        loader._iterator = iterator
    return iterator


def are_alive(loader: DataLoader[Any] | None) -> bool:
    """Whether a loader has persistent workers that an earlier epoch has started."""
    return loader is not None and (loader._iterator is not None or loader in _LEFT)


def are_anothers(loader: DataLoader[Any] | None) -> bool:
    """Whether somebody else has started them, so that they report nothing."""
    kept = None if loader is None else loader._iterator
    return kept is not None and not isinstance(kept, Workers)


def reported(loader: DataLoader[Any] | None) -> dict[int, Any]:
    """Return what a loader's persistent workers reported last."""
    if loader is None or not are_alive(loader) or are_anothers(loader):
        return {}
    kept: Any = loader._iterator
    return dict(_LEFT[loader] if kept is None else kept.states)


def leave(loader: DataLoader[Any], state: Mapping[str, Any]) -> None:
    """Let the next workers of a loader be those that a loop of an earlier process left."""
    if loader.persistent_workers and not isinstance(loader._iterator, Workers):
        _LEFT[loader] = state["left"]


def taken_over(loader: DataLoader[Any]) -> bool:
    """Whether persistent workers are somebody else's where they would have been an ended loop's."""
    return are_anothers(loader) and _LEFT.pop(loader, None) is not None


def rest(iterator: Any, loader: DataLoader[Any]) -> None:
    """Let a loader's persistent workers end what they have begun, and say where that leaves them."""
    if isinstance(iterator, Workers) and iterator is loader._iterator:
        iterator.drain()


def drop(loader: DataLoader[Any]) -> None:
    """End the persistent workers that a loader may have."""
    if isinstance(loader._iterator, Workers):
        loader._iterator._shutdown_workers()
    loader._iterator = None
    _LEFT.pop(loader, None)


END_S = 5.0
"""How long workers may take to end by themselves, all of them together; torch gives each this long."""


def end(iterator: Any) -> None:
    """End the workers of an iterator that is let go, however busy they are; persistent ones stay.

    Where an exception is on its way, its traceback holds the iterator: torch would end them only when
    the traceback is forgotten, and wait 5 s for each.
    """
    workers: list[Any] = getattr(iterator, "_workers", [])
    shut_down = getattr(iterator, "_shutdown_workers", None)
    if not workers or shut_down is None or getattr(iterator, "_persistent_workers", False):
        return
    if iterator._worker_pids_set:  # their ends are no news from here on
        signal_handling._remove_worker_pids(id(iterator))
        iterator._worker_pids_set = False
    hurry = threading.Timer(END_S, lambda: [worker.kill() for worker in workers])
    hurry.daemon = True
    hurry.start()
    try:
        shut_down()
    finally:
        hurry.cancel()
        for worker in workers:
            if worker.is_alive():
                worker.kill()
            worker.join()


@contextmanager
def reporting(loader: DataLoader[Any], states: Mapping[int, Any]) -> Iterator[None]:
    """Let the workers that the block starts report their generators, and begin with ``states``."""
    collate, init = loader.collate_fn, loader.worker_init_fn
    loader.collate_fn = report = Reporting(collate)
    loader.worker_init_fn = Start(init, report, states)
    try:
        yield
    finally:
        loader.collate_fn, loader.worker_init_fn = collate, init


def _pack() -> dict[str, Any]:
    """The process's generators as bytes: a tensor would travel through shared memory of its own."""
    version, words, gauss = random.getstate()
    state: Any = np.random.get_state()  # noqa: NPY002 - the process's own
    return {
        "python": (version, array("Q", words).tobytes(), gauss),
        "numpy": (state[0], state[1].tobytes(), *state[2:]),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


def _unpack(state: dict[str, Any]) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(array("Q", words)), gauss))
    name, key, *rest = state["numpy"]
    np.random.set_state((name, np.frombuffer(key, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(torch.frombuffer(bytearray(state["torch"]), dtype=torch.uint8))


def _same(a: Any, b: Any) -> bool:
    if b is None or a[0] != b[0] or a[1].keys() != b[1].keys():
        return False
    return all(randomness.equal(value, b[1][path]) for path, value in a[1].items())
