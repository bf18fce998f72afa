"""Why a batch could not be fetched: which sample raised, or what else is wrong, in the data set's words.

torch says what happened and not which sample it was: that is found in the frames of the traceback, or
for what happened in a worker by asking for each sample of the batch again, here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from itertools import pairwise
from types import FrameType
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, IterableDataset, SequentialSampler
from torch.utils.data._utils import collate as torchs_collate
from torch.utils.data._utils import fetch as torchs_fetch

from loopwright.errors import DataError
from loopwright.train.callsite import place_of
from loopwright.train.mishaps import describe
from loopwright.train.mishaps.dead_workers import dead_worker
from loopwright.train.mishaps.fitting import does_not_fit
from loopwright.train.mishaps.hints import frames
from loopwright.train.process import randomness

if TYPE_CHECKING:
    from loopwright.train.data.source import Source

ASK_AGAIN_S = 5.0
"""How long samples are asked for again, to find the one that raised in a worker."""

_CAUGHT = re.compile(r"Caught \w+ in DataLoader worker process \d+\.")


def explain(error: Exception, source: Source) -> Exception:
    """Return what to raise for an exception that came while a batch was fetched: mostly itself.

    The user's own keeps its type and gets a note that names the sample. What torch says of a batch that
    does not fit together, or of a worker that died, becomes a `DataError` in the words of the data set.
    """
    loader = source.loader
    if (died := dead_worker(error, source, place(loader))) is not None:
        return died
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return error
    indices = source.next_up
    if indices is None:
        indices = sequential(loader, source.fetched)
    if isinstance(error, StopIteration):
        return _stopped(error, source, indices) if _is_a_samples(error) else error
    in_worker = _is_a_workers(error)
    if _in_collate(error):
        drawn = None if in_worker else _drawn(error)
        samples = _again(source, indices) if drawn is None else drawn
        return does_not_fit(samples, place(loader)) or error
    raised = _raised_again(error, source, indices) if in_worker else _asked_for(error, loader)
    if raised is not None:
        error.add_note(f"{raised} raised it" + _among(indices))
    elif (known := describe.samples(indices)) is not None:
        error.add_note(f"while {known} of the data set were fetched")
    return error


def place(loader: Any) -> str | None:
    """Return ``file.py:12`` of the user's data set, where its samples are made."""
    made = type(_chain(loader)[-1])
    return place_of(getattr(made, "__getitem__", None)) or place_of(getattr(made, "__iter__", None))


def _is_a_samples(end: StopIteration) -> bool:
    """Whether what looks like an epoch's end came out of a sample."""
    return any(_fetches(frame) for frame in frames(end)) or _is_a_workers(end)


def _stopped(error: StopIteration, source: Source, indices: Any) -> DataError:
    loader = source.loader
    in_worker = _is_a_workers(error)
    raised = _raised_again(error, source, indices) if in_worker else _asked_for(error, loader)
    return DataError(
        f"{raised or 'a sample'} raised StopIteration, which would have ended the epoch before its end",
        slug="sample-stopped", where=place(loader),
        hint="next(iterator, default) in __getitem__, or raise an IndexError",
    )  # fmt: skip


# -- samples that raised -------------------------------------------------------------------------


def _fetches(frame: FrameType) -> bool:
    return frame.f_code.co_filename == torchs_fetch.__file__


def _is_a_workers(error: BaseException) -> bool:
    return _CAUGHT.match(str(error)) is not None


def _chain(loader: Any) -> list[Any]:
    """Return the loader's data set, and those below it that wrappers such as ``Subset`` hold."""
    found = [getattr(loader, "dataset", None)]
    while (below := getattr(found[-1], "dataset", None)) is not None and len(found) < 20:
        found.append(below)
    return found


def _asked_for(error: BaseException, loader: DataLoader[Any]) -> str | None:
    """Name the sample whose ``__getitem__`` raised, from the frames of the traceback."""
    chain = _chain(loader)
    path = list(frames(error))
    for above, frame in pairwise(path):
        code = frame.f_code
        if code.co_name != "__getitem__" or code.co_argcount < 2 or _fetches(frame):
            continue
        if _fetches(above) or above.f_code.co_name in ("__getitems__", "<listcomp>"):
            holder = frame.f_locals.get(code.co_varnames[0])
            index = frame.f_locals.get(code.co_varnames[1])
            for depth, dataset in enumerate(chain):
                if holder is dataset:
                    return _named(chain, depth, index)
    return None


def _raised_again(error: BaseException, source: Source, indices: Any) -> str | None:
    """Ask for each sample of a batch until one raises as it did in the worker; None if none does."""
    for index, got in _again(source, indices, until=type(error)):
        if isinstance(got, type(error)):
            return _named(_chain(source.loader), 0, index)
    return None


def _again(
    source: Source, indices: Any, until: type[BaseException] | None = None
) -> list[tuple[Any, Any]]:
    """Return the samples of a batch, or the exceptions that they raise, as far as time allows."""
    if isinstance(indices, (int, str)):
        indices = [indices]
    if not isinstance(indices, Sequence):
        return []
    end, found = time.monotonic() + ASK_AGAIN_S, []
    with randomness.fork(), source.own.forked():
        for index in indices:
            try:
                got = source.loader.dataset[index]
            except Exception as error:  # what a sample raises is looked at  # noqa: BLE001
                got = error
            found.append((index, got))
            if time.monotonic() > end or (until is not None and isinstance(got, until)):
                break
    return found


def _named(chain: list[Any], depth: int, index: Any) -> str:
    """Return ``sample 13 of the data set``, and which that is of the data set below a ``Subset``."""
    if depth:
        return f"sample {index} of the {type(chain[depth]).__name__} below the {type(chain[0]).__name__}"
    said = f"sample {index} of the data set"
    for dataset, below in pairwise(chain):
        rows = getattr(dataset, "indices", None)
        if rows is None or not isinstance(index, int):
            break
        index = rows[index]
        said += f" ({index} of the {type(below).__name__} below it)"
    return said


def _among(indices: Any) -> str:
    known = describe.samples(indices)
    return f", in the batch of {known}" if known and known.startswith("samples") else ""


def sequential(loader: Any, number: int) -> Any:
    """Return the indices in batch ``number`` of a loader that does not shuffle; None of another."""
    if type(getattr(loader, "sampler", None)) is not SequentialSampler or not loader.batch_size:
        return None
    first = number * loader.batch_size
    return list(range(first, min(first + loader.batch_size, len(loader.sampler))))


# -- samples that do not fit together ------------------------------------------------------------


def _in_collate(error: BaseException) -> bool:
    """Whether torch's own collating failed, here or in a worker."""
    file = torchs_collate.__file__
    if _is_a_workers(error):
        return f'"{file}"' in str(error)
    return any(frame.f_code.co_filename == file for frame in frames(error))


def _drawn(error: BaseException) -> list[tuple[Any, Any]] | None:
    """Return the samples that were to be collated, with their indices, from the frame that fetched them."""
    for frame in frames(error):
        if _fetches(frame) and isinstance(frame.f_locals.get("data"), list):
            indices, data = frame.f_locals.get("possibly_batched_index"), frame.f_locals["data"]
            if isinstance(indices, Sequence) and len(indices) == len(data):
                return list(zip(indices, data, strict=True))
    return None
