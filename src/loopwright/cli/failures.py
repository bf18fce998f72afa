"""What a person sees when a command fails, and the exit code.

The last thing on stderr is ``error: <what> (<where>)`` and at most a ``hint:`` line. Frames of the library
are hidden unless ``--traceback`` is given; an exception of the user's code keeps its type, and its traceback
is shown from the first to the last line of theirs.

====  ==========================================================
code  meaning
====  ==========================================================
0     done
1     training failed: user code, data, a non-finite loss
2     usage or settings
3     a checkpoint or a run folder was refused
4     disk or permission
130   Ctrl-C
143   SIGTERM
====  ==========================================================
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loopwright.cli.as_flags import as_flags
from loopwright.cli.frames import PACKAGE, place, users_frames, users_frames_in_text
from loopwright.errors import LoopwrightError, LoopwrightWarning

HINT = "hint: "
"""How the note of an exception begins that says what to do."""

LONGEST = 300
"""Characters of a message that are the error's line; a longer one stands above it in full."""

_RECIPE = "__loopwright_recipe_place__"

EVERYTHING = "the same command with --traceback shows the library's lines too"


@dataclass(slots=True)
class Failure:
    """An error in the form in which it is printed."""

    what: str
    where: str | None
    hint: str | None
    code: int
    before: list[str] = field(default_factory=list)
    """Lines printed above: the user's part of the traceback, notes."""


def failure(error: BaseException) -> Failure:
    """Sort an exception into what to say and the exit code."""
    error = _in_our_words(error)
    frames = users_frames(error.__traceback__)
    recipe = getattr(error, _RECIPE, None)
    if isinstance(error, LoopwrightError):
        # Where no line of the user's is to blame, the words of the command are.
        where = error.where or (place(frames[-1]) if frames else recipe) or "command line"
        where = where.removeprefix(f"{os.getcwd()}{os.sep}")
        # A table under the first line stands above: the error is the last thing that is read.
        what, _, table = error.what.partition("\n")
        before = [*table.splitlines(), *getattr(error, "__notes__", ())]
        hint = None if error.hint is None else as_flags(_one_line(error.hint))
        return Failure(_one_line(what), where, hint, error.exit_code, before)
    if isinstance(error, KeyboardInterrupt):
        notes = getattr(error, "__notes__", [])
        return Failure("interrupted", "Ctrl-C", notes[-1] if notes else None, 130)
    text = str(error)
    in_worker = users_frames_in_text(text) if "Original Traceback" in text else []
    if in_worker and not frames:
        return _users_error(error, in_worker, text.strip().splitlines()[-1])
    if frames:
        return _users_error(error, frames, _named(error))
    if isinstance(error, OSError):
        return _system_error(error)
    notes, hint = _notes(error)
    where = recipe if recipe and notes else _ours(error)
    return Failure(_named(error), where, hint or EVERYTHING, 1, notes)


def locate(error: BaseException, recipe: str) -> None:
    """Note which recipe was trained: the place of an exception for which none of its lines is to blame."""
    setattr(error, _RECIPE, recipe)


def _in_our_words(error: BaseException) -> BaseException:
    """Return an error of ours for what torch raises wherever the program is: a worker has died."""
    if "torch" not in sys.modules or isinstance(error, LoopwrightError):
        return error
    from loopwright.train.mishaps.dead_workers import dead_worker

    died = dead_worker(error)
    if died is None:
        return error
    died.__notes__ = [note for note in getattr(error, "__notes__", ()) if not note.startswith(HINT)]
    setattr(died, _RECIPE, getattr(error, _RECIPE, None))
    return died


def _notes(error: BaseException) -> tuple[list[str], str | None]:
    """Return an exception's notes, and the hint that is one of them or that torch's message has."""
    notes = [line for note in getattr(error, "__notes__", ()) for line in str(note).splitlines()]
    hints = [note for note in notes if note.startswith(HINT)]
    hint = hints[-1].removeprefix(HINT) if hints else None
    if hint is None and "torch" in sys.modules:
        from loopwright.train.mishaps.hints import hint_for

        hint = hint_for(error)
    return [note for note in notes if note not in hints], hint


def show(error: BaseException, *, everything: bool = False) -> int:
    """Print the failure to stderr; returns the exit code."""
    if "loopwright.parallel.failures" in sys.modules:
        from loopwright.parallel import current
        from loopwright.parallel.failures import lost_the_others, what_happened

        if current.WORLD is not None and lost_the_others(error):
            print(what_happened(current.WORLD, error), file=sys.stderr)
            return 1
    found = failure(error)
    if everything and found.hint == EVERYTHING:
        found.hint = None
    return _print(found, error if everything else None)


def _print(found: Failure, whole: BaseException | None = None) -> int:
    _flush()
    if whole is not None:
        sys.stderr.write("".join(traceback.format_exception(whole)))
    else:
        for line in found.before:
            sys.stderr.write(line.rstrip("\n") + "\n")
    red, cyan, plain = ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") if colourful() else ("", "", "")
    where = f" ({found.where})" if found.where else ""
    sys.stderr.write(f"{red}error:{plain} {found.what}{where}\n")
    if found.hint:
        sys.stderr.write(f"{cyan}hint:{plain} {found.hint}\n")
    sys.stderr.flush()
    return found.code


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        # The reader has gone: what is left in the buffer must not fail once more at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_exit(end: SystemExit, *, everything: bool = False) -> int:
    """Print why a command was left by ``SystemExit``: SIGTERM, or a ``sys.exit()`` of the user's code.

    The latter is never a success: a training that its own recipe ended has not done what was asked.
    """
    frames = users_frames(end.__traceback__)
    notes = getattr(end, "__notes__", [])
    if end.code == 143 and not frames and os.environ.get("RANK", "0") != "0":
        return 143  # the first rank says it
    if type(end).__name__ == "EndedElsewhere":
        return int(end.code or 1)
    if end.code == 143 and not frames:
        return _print(Failure("ended by SIGTERM", "signal 15", notes[-1] if notes else None, 143))
    if not frames:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    found = _users_error(end, frames, f"sys.exit({end.code!r}) was called")
    found.code = end.code if isinstance(end.code, int) and end.code else 1
    return _print(found, end if everything else None)


def show_warning(
    otherwise: Callable[..., None],
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    *rest: Any,
) -> None:
    """Print a warning of ours as one sentence; all others go the usual way."""
    if not issubclass(category, LoopwrightWarning):
        otherwise(message, category, filename, lineno, *rest)
        return
    yellow, plain = ("\x1b[33m", "\x1b[0m") if colourful() else ("", "")
    sys.stderr.write(f"{yellow}warning:{plain} {message}\n")


def colourful() -> bool:
    """True where stderr is a terminal that shows colours (``NO_COLOR`` is respected)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stderr.isatty()


def _users_error(error: BaseException, frames: list[traceback.FrameSummary], named: str) -> Failure:
    notes, hint = _notes(error)
    lines = _causes(error)
    lines += ["Traceback (most recent call last):", *traceback.format_list(frames), *notes]
    return Failure(_one_line(named), place(frames[-1]), hint, 1, lines)


def _causes(error: BaseException) -> list[str]:
    """The user's part of what an exception was raised from, outermost cause first."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is None:
        return []
    frames = users_frames(cause.__traceback__)
    if not frames:
        return _causes(cause)
    link = "which was the cause of:" if error.__cause__ else "and while that was handled:"
    lines = ["Traceback (most recent call last):", *traceback.format_list(frames), _named(cause)]
    return [*_causes(cause), *lines, "", link, ""]


def _system_error(error: OSError) -> Failure:
    path = str(error.filename) if error.filename is not None else None
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    if isinstance(error, BrokenPipeError):
        return Failure("the output was closed before it was written", "stdout", None, 4)
    if isinstance(error, FileNotFoundError):
        return Failure(f"no such file or folder: {path}", "command line", None, 2)
    hint = None
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "choose a folder that can be written, with --out"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "make room, then run the same command again: it goes on where it was"
    return Failure(reason, path or _ours(error), hint, 4)


def _named(error: BaseException) -> str:
    text = str(error)
    if "torch" in sys.modules:
        from loopwright.train.mishaps import memory

        if memory.out_of_memory(error):
            text = memory.reading(error)
    kind = type(error).__qualname__
    return _one_line(f"{kind}: {text}" if text else kind)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _ours(error: BaseException) -> str | None:
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if frame.filename.startswith(PACKAGE):
            return f"loopwright{frame.filename.removeprefix(PACKAGE)}:{frame.lineno}"
    return None
