"""One loader's batches, epoch by epoch: what all kinds of loaders share.

=================  =============================================================================
`MapFeed`          torch's ``DataLoader`` over a map-style data set: its sampler is moved on,
                   nothing is loaded that was trained on before
`StatefulFeed`     a loader with ``state_dict`` and ``load_state_dict``: asked for its state
`StreamFeed`       everything else: read again from the epoch's beginning
`PlainFeed`        any loader, for evaluation: never gone on with
=================  =============================================================================

A feed makes the loader's iterator where ``for`` would make it, so what the loader draws is drawn then.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from torch.utils.data import DataLoader

from loopwright.errors import DataError, LoopwrightWarning
from loopwright.train.data import workers
from loopwright.train.data.bulk import gather_in_bulk

if TYPE_CHECKING:
    from loopwright.train.data.rows import Rows

Counter = Callable[[int], Iterable[int]]
"""``range``, or something like it that shows how far it is."""


class Account(NamedTuple):
    """Where a feed stands after a batch: one may have been fetched ahead of it.

    Attributes:
        indices: of the samples in the batch, None where nobody knows them.
        digest: over all indices of the epoch so far, see `Order`.
        workers: the generator states that the workers have reported.
        loader: the state of a loader that has one.
    """

    indices: Any = None
    digest: int = 0
    workers: dict[int, Any] | None = None
    loader: Any = None


NOTHING = Account()


class Feed:
    """What all kinds share.

    Attributes:
        iterator: of the current epoch; None between epochs.
        looks_ahead: the loop fetches a batch before it hands out the one before.
        there: brings rows to a device; None where the loop brings each batch there.
    """

    def __init__(self, loader: Any):
        self.loader = loader
        self.looks_ahead = False
        self.there: Rows | None = None
        self.iterator: Any = None

    def open(self) -> None:
        """Begin an epoch."""
        raise NotImplementedError

    def reopen(
        self, state: dict[str, Any], position: int, at_start: Callable[[], None], count: Counter
    ) -> None:
        """Go to batch number ``position`` of an epoch that an earlier process began.

        Args:
            state: what ``state_dict`` returned there.
            position: batches that were handed out.
            at_start: puts all generators where they were when the epoch began.
            count: as ``range``, for what takes long.
        """
        raise NotImplementedError

    def fetch(self) -> Any:
        """Return the next batch; raises StopIteration at the epoch's end."""
        return next(self.iterator)

    def _go_forward(self, count: Iterable[int], position: int) -> None:
        """Fetch as many batches as ``count`` counts, and drop them.

        Raises:
            DataError: there are fewer than were trained on.
        """
        for done in count:
            try:
                self.fetch()
            except StopIteration:
                raise DataError(
                    f"the loader gave {done} batches where {position} had been trained on "
                    "before the interruption",
                    slug="data-changed",
                    hint="the data must be the same to go on; start anew with resume='never'",
                ) from None

    def account(self) -> Account:
        """Return where the feed stands after the batch that was fetched last."""
        return NOTHING

    def state_dict(self, account: Account) -> dict[str, Any]:
        """Return what ``reopen`` needs beside the generators, with the feed where ``account`` says."""
        raise NotImplementedError

    def ready(self) -> list[Any]:
        """Return batches to come that are there already, without taking them."""
        return []

    def pass_over(self, count: int) -> Account:
        """Take some of the batches that are ``ready``; returns where that leads to."""
        for _ in range(count):
            self.fetch()
        return self.account()

    def rest(self) -> None:
        """Prepare for the loop's end inside an epoch: persistent workers end what they have begun."""

    def close(self) -> None:
        """Let go of the iterator, and end its workers (unless they are persistent).

        Where that is inside an epoch, the position can still be asked for.
        """
        workers.end(self.iterator)
        self.iterator = None

    def end_epoch(self) -> None:
        """Forget the epoch: the next one begins with ``open``."""
        self.close()

    def leave(self, state: dict[str, Any]) -> None:
        """Take over what a loop left that an earlier process ended: a later loop may have this loader."""

    @property
    def restores(self) -> Any:
        """The object of this process whose attributes ``reopen`` puts back, None where there is none."""
        return None

    @property
    def next_up(self) -> Any:
        """Indices of the samples in the batch that is being fetched, None where nobody knows them."""
        return None


class PlainFeed(Feed):
    """Any loader, from an epoch's beginning to its end: for evaluation, which is never gone on with."""

    def open(self) -> None:
        """Make the iterator."""
        self.iterator = workers.iterator_of(self.loader)
        gather_in_bulk(self.loader, self.iterator)

    def state_dict(self, account: Account) -> dict[str, Any]:  # noqa: ARG002
        """Return nothing: it begins anew each time."""
        return {}


def is_torchs(loader: Any) -> bool:
    """Whether a loader fetches as torch's own does: the same iterators, workers in turn."""
    kind = type(loader)
    return (
        isinstance(loader, DataLoader)
        and kind.__iter__ is DataLoader.__iter__
        and kind._get_iterator is DataLoader._get_iterator
    )


def warn_taken_over(loader: Any) -> None:
    """Say that a loop begins with workers that are not those which an ended one would have left it."""
    warn_other_order(f"the {type(loader).__name__}'s persistent workers may give other batches", 0)


def warn_unknown_iterators(names: list[str]) -> None:
    """Say that what the body reads beside the loop's own data begins anew."""
    warnings.warn(
        f"{' and '.join(names)}: an iterator beside the loop's own begins anew, where it stood is not known "
        "to the run: it goes on with other samples than it would have had (run.loop(lambda: zip(one, other)) "
        "knows both)  [other-order]",
        LoopwrightWarning,
        stacklevel=2,
    )


def warn_other_order(what: str, position: int) -> None:
    """Say that a run which goes on may not be the one that it would have been."""
    warnings.warn(
        f"{what} than before the interruption (over {position} batches of this epoch): the run goes on "
        "with other samples than it would have had  [other-order]",
        LoopwrightWarning,
        stacklevel=2,
    )
