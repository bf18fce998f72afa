"""The checkpoints that retention never deletes, by name, in a file that outlives the process."""

from __future__ import annotations

import errno
import json
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loopwright.checkpoint import catalog, disk
from loopwright.errors import LoopwrightWarning, UsageError

PROTECTED = "protected.json"


def read(folder: Path) -> frozenset[str]:
    """Return the protected names of a store's folder.

    Raises:
        OSError: there is no list (``FileNotFoundError``), or it is a link, or it may not be read.
        ValueError, KeyError, TypeError, RecursionError, UsageError: it is not what was written.
    """
    with disk.HashedReader(folder / PROTECTED) as reader:
        names = json.loads(reader.read(1 << 20))["protected"]
    return frozenset(catalog.check_name(name) for name in names)


class Protection:
    """A set of names beside the checkpoints of a store.

    When the file is damaged, everything that is there is protected: which names mattered is not known.

    Args:
        folder: the store's folder.
    """

    def __init__(self, folder: Path):
        self._path = folder / PROTECTED
        self._lock = threading.Lock()
        self.names = self._read()

    def add(self, name: str) -> None:
        """Protect a name."""
        with self._lock:
            self._write(self.names | {name})

    def discard(self, name: str) -> None:
        """Protect a name no longer."""
        with self._lock:
            self._write(self.names - {name})

    @contextmanager
    def frozen(self) -> Iterator[frozenset[str]]:
        """Hold changes off while checkpoints are deleted."""
        with self._lock:
            yield self.names

    def _read(self) -> frozenset[str]:
        folder = self._path.parent
        try:
            return read(folder)
        except FileNotFoundError:
            return frozenset()
        except NotADirectoryError:
            return frozenset()  # the first save says so, and checks that need no save do not mind
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EIO):
                raise disk.explain(
                    error, "read the list of protected checkpoints", self._path
                ) from error
        except (ValueError, KeyError, TypeError, RecursionError, UsageError):
            pass
        names = [entry.name for entry in catalog.entries(folder)]
        warnings.warn(
            f"{self._path} is damaged: none of the {len(names)} checkpoints there will be deleted",
            LoopwrightWarning,
            stacklevel=4,
        )
        return frozenset(names)

    def _write(self, names: frozenset[str]) -> None:
        if names == self.names:
            return
        with disk.failures("write the list of protected checkpoints", self._path):
            disk.ensure_folder(self._path.parent)
            disk.replace_file(self._path, json.dumps({"protected": sorted(names)}).encode())
        self.names = names
