"""The idx format of MNIST and its successors: big-endian, a magic number, the sizes, the bytes.

::

    0  0  8  n          magic: two zeros, 8 for unsigned bytes, the number of dimensions
    size 1 .. size n    four bytes each, most significant first
    data                one unsigned byte per element, last dimension fastest
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

from loopwright.errors import DataError, UsageError


def find_idx(folder: Path, name: str) -> Path:
    """Return ``folder/name`` or ``folder/name.gz``, whichever is there.

    Raises:
        UsageError: no such folder, or neither file is in it.
    """
    if not folder.is_dir():
        what = f"{folder} is not a folder" if folder.exists() else f"there is no folder {folder}"
        raise UsageError(what, slug="no-data", hint=f"name the folder that holds {name}.gz")
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise UsageError(f"there is neither {name} nor {name}.gz in {folder}", slug="no-data")


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Return the array in an idx file, uint8 with that many dimensions.

    Raises:
        DataError: not gzip though it is called so, another magic number, or a length that does
            not fit the sizes.
    """

    def broken(what: str) -> DataError:
        return DataError(what, slug="broken-idx", where=str(path))

    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise broken(f"the file is not whole gzip: {error}") from None
    start = 4 + 4 * dimensions
    wanted = bytes([0, 0, 8, dimensions])
    if content[:4] != wanted or len(content) < start:
        seen, magic = content[:4].hex(" ") or "nothing", wanted.hex(" ")
        raise broken(f"an idx file of this kind starts with {magic}; this one with {seen}")
    sizes = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    if len(content) - start != math.prod(sizes):
        shape = " x ".join(map(str, sizes))
        raise broken(f"{shape} bytes were announced and {len(content) - start:,} follow")
    if not math.prod(sizes):
        raise broken("the file holds no sample")
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).view(sizes)
