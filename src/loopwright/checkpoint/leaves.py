"""Values without parts, as JSON and back: exact, and no code named by a file is ever run.

JSON keeps None, True, False, ordinary text, 64-bit integers and finite floats as they are. All else
is an object with one key that names its kind: ``{"int": "-0x1f..."}``, ``{"float": "7ff8..."}``.
"""

from __future__ import annotations

import base64
import math
import re
import struct
import sys
from enum import Enum, Flag
from typing import Any

import numpy as np
import torch

SMALL = 1 << 63

# Only kinds whose bytes are the value: no objects, no records.
NUMPY_DTYPE = re.compile(r"[<>|][biufcmMSU]\d{1,9}(\[\d*[A-Za-zμ]+\])?")

TORCH_DTYPES = {
    str(value).removeprefix("torch."): value
    for value in vars(torch).values()
    if isinstance(value, torch.dtype)
}


def pack_int(value: int) -> Any:
    """64-bit integers as JSON numbers, larger ones in hex (decimal has a length limit in Python)."""
    return value if -SMALL <= value < SMALL else {"int": hex(value)}


def pack_float(value: float) -> Any:
    """Finite floats as JSON numbers (repr is exact, -0.0 included), others by their 8 bytes."""
    return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}


def unpack_float(body: str) -> float:
    """The float of 16 hex digits; a nan keeps its sign and payload."""
    raw = bytes.fromhex(body)
    if len(raw) != 8:
        raise ValueError(f"{len(raw)} bytes for a float")
    return struct.unpack(">d", raw)[0]


def is_plain(text: str) -> bool:
    """Whether JSON keeps the text: two surrogates side by side would come back as one character."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def pack_text(value: str) -> Any:
    """Text as a JSON string; text with surrogates as base64 of UTF-32."""
    if is_plain(value):
        return value
    return {"text": pack_bytes(value.encode("utf-32-le", "surrogatepass"))}


def unpack_text(body: str) -> str:
    """The text of `pack_text`'s base64."""
    return unpack_bytes(body).decode("utf-32-le", "surrogatepass")


def pack_bytes(value: bytes) -> str:
    """Base64."""
    return base64.b64encode(value).decode("ascii")


def unpack_bytes(body: str) -> bytes:
    """The bytes of base64; anything else in it is a ValueError."""
    return base64.b64decode(body, validate=True)


def enum_path(kind: type) -> str | None:
    """``module:Qualified.Name`` of an enum, or None when that does not lead back to it."""
    path = f"{kind.__module__}:{kind.__qualname__}"
    return path if _find_enum(path) is kind else None


def _find_enum(path: str) -> type[Enum] | None:
    # Looks into dictionaries only, of modules that are imported already: a name in a file neither
    # imports a module nor calls a module's __getattr__.
    module, _, qualified = path.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualified.split("."):
        if found is None:
            return None
        found = vars(found).get(part)
        if not isinstance(found, type):
            return None
    return found if issubclass(found, Enum) else None


def pack_enum(value: Enum) -> list[Any] | None:
    """``[path, member name]``, for a combination of flags ``[path, number]``; None if unimportable."""
    path = enum_path(type(value))
    if path is None:
        return None
    if value.name in type(value).__members__ and type(value)[value.name] is value:
        return [path, value.name]
    return [path, value.value] if isinstance(value, Flag) else None


def unpack_enum(body: list[Any]) -> Enum:
    """The member of an enum whose module the program has imported.

    Raises:
        LookupError: no such enum in an imported module, or no such member.
    """
    path, member = body
    kind = _find_enum(path)
    if kind is None:
        raise LookupError(f"no enum {path!r} in the modules that the program has imported")
    if isinstance(member, int) and issubclass(kind, Flag):
        return kind(member)
    return kind[member]


def pack_numpy_scalar(value: np.generic) -> Any:
    """A numpy scalar as dtype and bytes, or None for kinds that have no plain bytes."""
    if isinstance(value, np.str_):
        return {"numpy.str": pack_text(str.__str__(value))}  # str(value) drops zeros at the end
    if isinstance(value, np.bytes_):
        return {"numpy.bytes": pack_bytes(value.tobytes())}
    if not NUMPY_DTYPE.fullmatch(value.dtype.str):
        return None
    return {"numpy": [value.dtype.str, value.tobytes().hex()]}


def numpy_dtype(name: str) -> np.dtype:
    """The dtype of a name that passes `NUMPY_DTYPE`; a ValueError for any other."""
    if not NUMPY_DTYPE.fullmatch(name):
        raise ValueError(f"numpy dtype {name!r}")
    return np.dtype(name)


def unpack_numpy_scalar(body: list[str]) -> np.generic:
    """The numpy scalar of dtype and bytes."""
    name, data = body
    raw = bytes.fromhex(data)
    dtype = numpy_dtype(name)
    if len(raw) != dtype.itemsize:
        raise ValueError(f"{len(raw)} bytes for a numpy {name}")
    return np.frombuffer(raw, dtype)[0]
