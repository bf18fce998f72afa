"""State trees as JSON and named tensors, and back: equal, with every type kept, without pickle.

What a tree may hold: dict (any order, keys of any hashable kind below), OrderedDict, Counter,
defaultdict of a builtin, list, tuple, set, frozenset, deque; None, bool, int, float, complex, str,
bytes, members of an importable enum; numpy arrays and scalars; tensors and Parameters,
``torch.Size``, ``torch.dtype``, ``torch.device``. Two tensors that are the same view of the same
memory come back as one tensor. Tensors come back on the CPU, detached.

Everything else is refused by `encode`, with its path, before anything is written.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from loopwright.checkpoint import arrays, leaves
from loopwright.checkpoint.refusal import UnsupportedState, refuse

__all__ = ["MalformedTree", "UnsupportedState", "decode", "encode"]

MAX_DEPTH = 100  # json's own recursion is bounded; real states are at most a dozen levels deep
INLINE_BYTES = 1024  # longer bytes go to the tensor file

FACTORIES = {kind.__name__: kind for kind in (int, float, bool, str, list, dict, set, tuple)}
CONTAINERS = (dict, OrderedDict, Counter, defaultdict, list, tuple, set, frozenset, deque)


class MalformedTree(ValueError):  # noqa: N818  read as a noun in `except`
    """What was read is not a tree that `encode` makes."""


def encode(state: Any, *, root: str = "state") -> tuple[Any, dict[str, Tensor]]:
    """Turn a state into something that ``json.dumps`` takes and the tensors that it names.

    Nothing is copied where memory can be used as it is: the tensors are views of live ones, so
    write or copy them before training goes on. Costs about 10 µs per tensor.

    Args:
        state: the tree.
        root: what paths in error messages begin with.

    Returns:
        The JSON-able tree and ``{name: contiguous tensor}``.

    Raises:
        UnsupportedState: a value that cannot be stored, by its path.
    """
    encoder = _Encoder()
    with torch.inference_mode(False), torch.no_grad():
        return encoder.value(state, root), encoder.tensors


def decode(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """Turn what `encode` returned back into the state.

    Runs no code that the tree names: enums are looked up in imported modules only.

    Raises:
        MalformedTree: anything else than what `encode` makes.
    """
    try:
        with torch.inference_mode(False), torch.no_grad():
            return _Decoder(tensors).value(tree)
    except MalformedTree:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise MalformedTree(f"{type(error).__name__}: {error}") from error


def _fit(smallest: int, largest: int) -> bool:
    return smallest >= -leaves.SMALL and largest < leaves.SMALL


class _Encoder:
    """One walk over a state; `tensors` fills up on the way."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._stored: dict[tuple[Any, ...], tuple[str, dict[str, Any]]] = {}
        self._keep: list[Tensor] = []
        self._open: set[int] = set()
        self._hashable = 0

    def value(self, value: Any, path: str) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        simple = _SIMPLE.get(kind)
        if simple is not None:
            return simple(value)
        if kind in CONTAINERS or kind is torch.Size:
            return self._container(value, path)
        if kind is bytes:
            return self._bytes(value, path)
        if isinstance(value, Enum):
            packed = leaves.pack_enum(value)
            return refuse(value, path) if packed is None else {"enum": packed}
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if isinstance(value, np.ndarray):
            return self._array(value, path)
        if isinstance(value, np.generic):
            packed = leaves.pack_numpy_scalar(value)
            return refuse(value, path) if packed is None else packed
        return refuse(value, path)

    def _container(self, value: Any, path: str) -> Any:
        if id(value) in self._open:
            refuse(value, path, kind=f"{type(value).__name__} that contains itself")
        if len(self._open) >= MAX_DEPTH:
            refuse(value, path, kind=f"more than {MAX_DEPTH} levels")
        self._open.add(id(value))
        try:
            return self._open_container(value, path)
        finally:
            self._open.discard(id(value))

    def _open_container(self, value: Any, path: str) -> Any:
        kind = type(value)
        if kind is dict:
            return self._mapping(value, path)
        if kind is list:
            return self._items(value, path)
        if kind in (tuple, torch.Size):
            return {"tuple" if kind is tuple else "size": self._items(value, path)}
        if kind in (set, frozenset):
            self._hashable += 1
            items = [self.value(item, f"{path}{{{item!r:.60}}}") for item in value]
            self._hashable -= 1
            return {kind.__name__: items}
        if kind is deque:
            return {"deque": [value.maxlen, self._items(value, path)]}
        if kind is Counter:
            return {"counter": self._pairs(value, path)}
        if kind is defaultdict:
            factory = value.default_factory
            if (
                factory is not None
                and FACTORIES.get(getattr(factory, "__name__", "")) is not factory
            ):
                refuse(factory, f"{path}.default_factory")
            return {"defaultdict": [factory and factory.__name__, self._pairs(value, path)]}
        return self._ordered(value, path)

    def _ordered(self, value: OrderedDict[Any, Any], path: str) -> Any:
        # A module's state_dict carries the version of each submodule in this attribute.
        extra = dict(vars(value))
        metadata = extra.pop("_metadata", None)
        for name, unknown in extra.items():
            refuse(unknown, f"{path}.{name}", kind=f"attribute on an OrderedDict ({name})")
        pairs = self._pairs(value, path)
        if metadata is None:
            return {"ordered": [pairs]}
        return {"ordered": [pairs, self.value(metadata, f"{path}._metadata")]}

    def _mapping(self, value: dict[Any, Any], path: str) -> Any:
        if all(type(key) is str and leaves.is_plain(key) for key in value):
            return {
                "dict": {key: self.value(item, f"{path}[{key!r}]") for key, item in value.items()}
            }
        return {"items": self._pairs(value, path)}

    def _pairs(self, value: dict[Any, Any], path: str) -> list[list[Any]]:
        pairs = []
        for key, item in value.items():
            below = f"{path}[{key!r:.120}]"
            self._hashable += 1
            packed = self.value(key, f"the key of {below}")
            self._hashable -= 1
            pairs.append([packed, self.value(item, below)])
        return pairs

    def _items(self, value: Iterable[Any], path: str) -> list[Any]:
        items = list(value)
        # A permutation of a data set is a list of 60,000 ints: 3 ms this way, 42 ms one by one.
        if items and set(map(type, items)) == {int} and _fit(min(items), max(items)):
            return items
        return [self.value(item, f"{path}[{index}]") for index, item in enumerate(items)]

    def _name(self, tensor: Tensor, path: str) -> str:
        name = arrays.tensor_name(len(self.tensors), path)
        self.tensors[name] = tensor
        return name

    def _bytes(self, value: bytes, path: str) -> Any:
        if len(value) <= INLINE_BYTES or self._hashable:
            return {"bytes": leaves.pack_bytes(value)}
        return {"bytes.at": self._name(torch.frombuffer(bytearray(value), dtype=torch.uint8), path)}

    def _array(self, value: np.ndarray, path: str) -> Any:
        why = arrays.array_refusal(value)
        if why is not None:
            refuse(value, path, kind=why)
        flat, fields = arrays.store_array(value)
        return {"array": {"at": self._name(flat, path), **fields}}

    def _tensor(self, value: Tensor, path: str) -> Any:
        why = arrays.refusal(value)
        if why is None and self._hashable:
            why = "Tensor as a key or in a set (it would not be the same key afterwards)"
        if why is not None:
            refuse(value, path, kind=why)
        same = arrays.identity(value)
        if same not in self._stored:
            flat, fields = arrays.store_tensor(value)
            self._stored[same] = self._name(flat, path), fields
            self._keep.append(value)  # its id and its memory stay taken while the walk lasts
        name, fields = self._stored[same]
        node = {"at": name, **fields}
        if type(value) is torch.nn.Parameter:
            node["parameter"] = value.requires_grad
        elif value.requires_grad and value.is_leaf:
            node["requires_grad"] = True
        return {"tensor": name} if len(node) == 1 else {"tensor": node}


_SIMPLE: dict[type, Callable[[Any], Any]] = {
    int: leaves.pack_int,
    float: leaves.pack_float,
    str: leaves.pack_text,
    complex: lambda value: {"complex": [leaves.pack_float(x) for x in (value.real, value.imag)]},
    torch.dtype: lambda value: {"dtype": str(value).removeprefix("torch.")},
    torch.device: lambda value: {"device": str(value)},
}


class _Decoder:
    """One walk over a tree that was read; ``tensors`` are the file's."""

    def __init__(self, tensors: dict[str, Tensor]):
        self._tensors = tensors
        self._made: dict[str, Tensor] = {}

    def value(self, node: Any) -> Any:
        if node is None or isinstance(node, (bool, int, float, str)):
            return node
        if isinstance(node, list):
            return [self.value(item) for item in node]
        if not isinstance(node, dict) or len(node) != 1:
            raise MalformedTree(f"expected an object with one key, got {str(node)[:80]}")
        ((tag, body),) = node.items()
        build = _BUILD.get(tag)
        if build is None:
            raise MalformedTree(f"unknown kind {tag[:80]!r}")
        return build(self, body)

    def pairs(self, body: list[list[Any]]) -> list[tuple[Any, Any]]:
        return [(self.value(key), self.value(item)) for key, item in body]

    def mapping(self, body: dict[str, Any]) -> dict[str, Any]:
        return {key: self.value(item) for key, item in body.items()}

    def complex(self, body: list[Any]) -> complex:
        real, imag = map(self.value, body)
        return complex(real, imag)

    def ordered(self, body: list[Any]) -> OrderedDict[Any, Any]:
        made = OrderedDict(self.pairs(body[0]))
        if len(body) > 1:
            made._metadata = self.value(body[1])  # pyrefly: ignore
        return made

    def defaultdict(self, body: list[Any]) -> Any:
        factory, pairs = body
        return defaultdict(FACTORIES[factory] if factory else None, self.pairs(pairs))

    def deque(self, body: list[Any]) -> deque[Any]:
        maxlen, items = body
        return deque(self.value(items), maxlen)

    def tensor(self, body: str | dict[str, Any]) -> Tensor:
        key = json.dumps(body)
        if key not in self._made:
            fields = {"at": body} if isinstance(body, str) else body
            made = arrays.restore_tensor(self._tensors[fields["at"]], fields)
            if "parameter" in fields:
                made = torch.nn.Parameter(made, requires_grad=bool(fields["parameter"]))
            elif fields.get("requires_grad"):
                made = made.detach().requires_grad_()
            self._made[key] = made
        return self._made[key]

    def array(self, body: dict[str, Any]) -> np.ndarray:
        return arrays.restore_array(self._tensors[body["at"]], body)


_BUILD: dict[str, Callable[[_Decoder, Any], Any]] = {
    "int": lambda _, body: int(body, 16),
    "float": lambda _, body: leaves.unpack_float(body),
    "text": lambda _, body: leaves.unpack_text(body),
    "bytes": lambda _, body: leaves.unpack_bytes(body),
    "bytes.at": lambda decoder, body: decoder._tensors[body].numpy().tobytes(),
    "complex": _Decoder.complex,
    "enum": lambda _, body: leaves.unpack_enum(body),
    "numpy": lambda _, body: leaves.unpack_numpy_scalar(body),
    "numpy.str": lambda decoder, body: np.str_(decoder.value(body)),
    "numpy.bytes": lambda _, body: np.bytes_(leaves.unpack_bytes(body)),
    "dtype": lambda _, body: leaves.TORCH_DTYPES[body],
    "device": lambda _, body: torch.device(str(body)),
    "size": lambda decoder, body: torch.Size(decoder.value(body)),
    "dict": _Decoder.mapping,
    "items": lambda decoder, body: dict(decoder.pairs(body)),
    "counter": lambda decoder, body: Counter(dict(decoder.pairs(body))),
    "defaultdict": _Decoder.defaultdict,
    "ordered": _Decoder.ordered,
    "tuple": lambda decoder, body: tuple(decoder.value(body)),
    "set": lambda decoder, body: set(decoder.value(body)),
    "frozenset": lambda decoder, body: frozenset(decoder.value(body)),
    "deque": _Decoder.deque,
    "tensor": _Decoder.tensor,
    "array": _Decoder.array,
}
