"""The files that a person names: with ``--to`` or ``--html`` there whole or not at all."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loopwright.errors import DiskError


def write_text(path: Path, text: str) -> None:
    """Write a report where a person wants it, also into what is no file (``/dev/fd/3``).

    Raises:
        DiskError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        what = f"cannot write {path}: {(error.strerror or os.strerror(error.errno or 0)).lower()}"
        raise DiskError(what, slug="cannot-write", where=str(path)) from error


def write_page(given: Mapping[str, Any], name: str, render: Callable[[], str]) -> None:
    """Write a page and open it, where ``--html``, ``--json`` and ``--open`` ask for that.

    Args:
        given: the flags; an ``html`` of None is ``none``, an empty one is not given.
        name: the file's, where ``--html`` says no other.
        render: returns the page.
    """
    asked = given["html"]
    if asked is None or (not asked and given["json"] is not None and not given["open"]):
        return
    page = Path(asked or name)
    write_text(page, render())
    print(f"wrote {page}", file=sys.stderr)
    if given["open"]:
        from loopwright.cli.terminal import show_page

        show_page(page)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a path to write to; only a block that ends well puts what is there in ``path``'s place.

    A link is followed, as ``>`` follows it. A device or a pipe (``/dev/null``, ``/dev/stdout``) is written
    into: put in its place, a file would take ``/dev/null`` away from the whole machine.

    Raises:
        DiskError: no room, no permission, or something else is in the way.
    """
    from loopwright.checkpoint import disk  # which imports torch

    if path.is_dir():
        what = f"cannot write {path.name}: a folder is in its place"
        raise DiskError(what, slug="cannot-write", where=str(path))
    special = disk.is_device(path)
    target = path if special else Path(os.path.realpath(path))
    place = None if special else target.parent
    with disk.failures(f"write {path}", path):
        folder = tempfile.TemporaryDirectory(dir=place, prefix=".loopwright-")
    with folder:
        new = Path(folder.name) / path.name
        try:
            yield new
        except DiskError as error:
            error.where = str(path)  # what it says is said; only the place is not the user's
            raise
        except OSError as error:
            if error.filename not in (None, str(new)):
                raise  # of something that was read
            raise disk.explain(error, f"write {path}", path) from error
        with disk.failures(f"write {path}", path):
            if special:
                with new.open("rb") as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
            else:
                new.replace(target)
