"""What a rank lends to others that have none: a batch, or the arguments of a call; trees of tensors alone."""

from __future__ import annotations

from typing import Any

from loopwright.checkpoint.tree import UnsupportedState, decode, encode
from loopwright.errors import DataError
from loopwright.parallel.world import World


class NotLent(Exception):  # noqa: N818  an answer, read as a noun in `except`
    """What one rank has can't be sent to another one; says what it is."""


def lent(value: Any, lender: int, world: World) -> Any:
    """Return on every rank what the ``lender`` has; all have to call it.

    Raises:
        NotLent: on every rank, where it holds something else than plain values and tensors.
    """
    tree, tensors, refused = None, None, None
    if world.rank == lender:
        try:
            tree, tensors = encode(value)
        except UnsupportedState as error:
            refused = error.kind
    tree, refused = world.first([tree, refused], of=lender)
    if refused is not None:
        raise NotLent(refused)
    return decode(tree, world.firsts(tensors, of=lender))


def lender_of(has_one: bool, world: World) -> int:
    """Return the first rank that has something to lend; at least one does."""
    return world.exchange(has_one).index(True)


def without_data(what: str, why: NotLent, world: World) -> DataError:
    """Return the error of ranks of which some have none."""
    return DataError(
        f"some of the {world.size} ranks got no batch in an epoch in which others did, and {what} cannot be "
        f"sent to them: it holds a {why}",
        slug="rank-without-data",
        hint="let the loader give dicts, lists or tuples of tensors; or fewer ranks, or smaller batches",
    )  # fmt: skip
