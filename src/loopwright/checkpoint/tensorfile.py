"""The safetensors format, read and written in one pass that hashes what it moves.

``8 bytes: header length, little-endian · header: JSON · the tensors' bytes, one after the other``
(https://github.com/huggingface/safetensors, "Format"). Written here rather than by the library
because a checkpoint needs the hash and the fsync of the same descriptor, and read here because its
memory map of a file that is truncated later ends the process (SIGBUS). The tests read each with the
other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from loopwright.checkpoint.arrays import NATIVE, memory_of
from loopwright.checkpoint.disk import HashedFile, HashedReader

MAX_HEADER = 100_000_000  # the library's own limit
MAX_DIMENSIONS = 64

# Third-party files may hold these too; ours name such dtypes in the tree instead (see arrays.NATIVE).
OTHER = {
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
DTYPES: dict[str, torch.dtype] = {name: dtype for dtype, name in NATIVE.items()}
DTYPES |= {name: getattr(torch, attr) for name, attr in OTHER.items() if hasattr(torch, attr)}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class MalformedFile(ValueError):  # noqa: N818  read as a noun in `except`
    """The file is not safetensors, or claims what it does not hold."""


@dataclass(slots=True)
class Entry:
    """One tensor of a header; ``begin`` and ``end`` count from the end of the header."""

    name: str
    dtype: torch.dtype
    shape: list[int]
    begin: int
    end: int


def header(tensors: dict[str, Tensor], metadata: dict[str, str]) -> tuple[bytes, list[str]]:
    """Return the first bytes of a file (length and JSON, a multiple of 8) and the order of the tensors.

    Larger elements come first, so that each tensor is aligned for readers that map the file.
    """
    order = sorted(tensors, key=lambda name: -tensors[name].element_size())
    table: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    begin = 0
    for name in order:
        tensor = tensors[name]
        end = begin + tensor.numel() * tensor.element_size()
        table[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    body = json.dumps(table, separators=(",", ":")).encode()
    body += b" " * (-len(body) % 8)
    return len(body).to_bytes(8, "little") + body, order


def write_tensors(file: HashedFile, tensors: Iterable[Tensor]) -> None:
    """Append tensors' bytes, one after the other; those on a device are copied one at a time."""
    for tensor in tensors:
        if tensor.numel():
            file.write(memory_of(tensor.detach().cpu().contiguous()))


def read_header(reader: HashedReader) -> tuple[bytes, list[Entry], dict[str, str]]:
    """Read and check the header; nothing it claims is trusted before it fits the file's size.

    Returns:
        The header's raw bytes (length included), the tensors in file order, the metadata.

    Raises:
        MalformedFile: too short, too long, not JSON, or offsets that do not cover the file exactly.
    """
    prefix = reader.read(8)
    if len(prefix) < 8:
        raise MalformedFile(f"{reader.size} bytes are too few for a safetensors file")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER or length > reader.size - 8:
        raise MalformedFile(f"the header claims {length:,} bytes in a file of {reader.size:,}")
    body = reader.read(length)
    try:
        table = json.loads(body, object_pairs_hook=_unique)
        if not isinstance(table, dict):
            raise MalformedFile("the header is not a JSON object")
        metadata = table.pop("__metadata__", {})
        entries = [_entry(name, fields) for name, fields in table.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedFile(f"the header is not readable: {error}") from error
    if not isinstance(metadata, dict) or not all(isinstance(x, str) for x in metadata.values()):
        raise MalformedFile("the header's metadata is not text")
    _check_layout(entries, reader.size - 8 - length)
    return prefix + body, entries, metadata


def read_tensors(reader: HashedReader, entries: list[Entry]) -> dict[str, Tensor]:
    """Read the tensors that `read_header` found, into new CPU memory.

    Raises:
        MalformedFile: the file ends early.
    """
    tensors = {}
    with torch.inference_mode(False):
        for entry in entries:
            memory = torch.empty(entry.end - entry.begin, dtype=torch.uint8, device="cpu")
            if memory.numel() and reader.read_into(memory_of(memory)) != memory.numel():
                raise MalformedFile(f"the file ends inside of tensor {entry.name!r}")
            tensors[entry.name] = memory.view(entry.dtype).reshape(entry.shape)
    return tensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise MalformedFile("a name stands twice in the header")
    return made


def _entry(name: str, fields: dict[str, Any]) -> Entry:
    shape, (begin, end) = fields["shape"], fields["data_offsets"]
    dtype = DTYPES.get(fields["dtype"])
    if dtype is None:
        raise MalformedFile(f"tensor {name!r} has dtype {fields['dtype']!r}, unknown here")
    if len(shape) > MAX_DIMENSIONS or not all(
        type(n) is int and n >= 0 for n in [*shape, begin, end]
    ):
        raise MalformedFile(f"tensor {name!r} has shape {shape}, offsets {begin} to {end}")
    if max(shape, default=0) >= 1 << 62 or end - begin != prod(shape) * dtype.itemsize:
        raise MalformedFile(f"tensor {name!r}: shape {shape} does not fit {end - begin} bytes")
    return Entry(name, dtype, shape, begin, end)


def _check_layout(entries: list[Entry], size: int) -> None:
    # Without holes or overlaps, as the format asks: reading in file order then needs no seek.
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    at = 0
    for entry in entries:
        if entry.begin != at:
            raise MalformedFile(f"tensor {entry.name!r} begins at {entry.begin}, expected {at}")
        at = entry.end
    if at != size:
        raise MalformedFile(f"the tensors end at {at}, the file holds {size}")
