"""Which checkpoints may go once a newer one is on the disk."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def expendable(
    names: Sequence[str],
    *,
    keep: int | None,
    protected: Collection[str] = (),
    untrusted: Collection[str] = (),
) -> list[str]:
    """Name what to delete: everything but the newest ``keep`` sound ones and the protected ones.

    Args:
        names: oldest first.
        keep: how many sound ones stay; None keeps all.
        protected: never deleted, and not counted.
        untrusted: known to be damaged: they do not count as kept, and go like any other.

    >>> expendable(["a", "b", "c", "d"], keep=2, protected=["a"])
    ['b']
    >>> expendable(["a", "b", "c", "d"], keep=2, untrusted=["d"])
    ['a']
    """
    if keep is None:
        return []
    sound = [name for name in names if name not in untrusted and name not in protected]
    kept = set(sound[-keep:])
    if len(kept) < keep:
        return []
    oldest_kept = next(name for name in names if name in kept)
    older = names[: names.index(oldest_kept)]
    return [name for name in older if name not in protected]
