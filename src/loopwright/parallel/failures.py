"""A rank that has lost the others says so in a line: the traceback to read is the failed rank's."""

from __future__ import annotations

import re
import sys
from types import TracebackType

from loopwright.parallel.world import World

SILENT = "rank-silent"
"""The slug: this is told in place of PyTorch's own error, which names no rank."""

_LOST = re.compile(r"gloo/transport|Connection closed by peer|NCCL communicator was aborted")
_LATE = re.compile(
    r"Timed out waiting \d+ms|Application timeout caused pair closure"
    r"|Watchdog caught collective operation timeout"
)
"""The first where a rank waits for an answer, the second where it gives one after another has waited."""


def lost_the_others(error: BaseException | None) -> bool:
    """Whether an exception, or what it was raised from, is another rank's end or silence."""
    return _search(_LOST, error) or _search(_LATE, error)


def _search(pattern: re.Pattern[str], error: BaseException | None) -> bool:
    seen = 0
    while error is not None and seen < 20:
        if isinstance(error, RuntimeError) and pattern.search(str(error)):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def speak_plainly(world: World) -> None:
    """Let an exception that is another rank's end be a few words on stderr instead of a traceback."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
        if lost_the_others(error):
            print(what_happened(world, error), file=sys.stderr, flush=True)
        else:
            before(kind, error, tb)

    sys.excepthook = hook


def what_happened(world: World, error: BaseException) -> str:
    """Return what a rank says that has lost the others; of a silent one, where it stands."""
    who = f"rank {world.rank} of {world.size}"
    if not _search(_LATE, error):
        return f"{who}: another rank has ended, its own output says why; ending too"
    lines = [f"{who}: not all ranks have answered within {world.limit_s:g} s  [{SILENT}]"]
    lines += [f"    {line}" for line in world.where_all_stand()]
    lines += ["  hint: every rank has to make the same turns, evaluations and logs"]
    return "\n".join(lines)
