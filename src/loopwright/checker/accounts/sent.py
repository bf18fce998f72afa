"""What a collective sends, by the program's name for it: a parameter's, or the key that it stands under.

Two ranks that send under different names are out of order only where nobody has meant that order. So a
key counts where a loop over a set or a dict chose it: such an order comes from hashes, addresses, or what
was seen first. A parameter's name counts there too, and elsewhere together with what the weights are, by
which replicas are known. A key that may be a rank is none ("my own first"), and neither is one that the
loop adds up without ever using its name: then the order is nobody's affair.
"""

from __future__ import annotations

import ast
import linecache
import zlib
from collections.abc import Iterator, KeysView
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn

from loopwright.checker.accounts.written import (
    THROUGH,
    Written,
    call_at,
    chosen_by,
    is_added_up,
    is_path,
    iterated,
)
from loopwright.observe.sites import user_frame, variables

LOOKED_AT = 4096
"""Values of a parameter that are looked at to tell replicas."""
_SETS = ("set", "frozenset")
_VIEWS = ("keys", "values", "items")


@dataclass(frozen=True)
class Name:
    """What something is called.

    Attributes:
        kind: "parameter" or "key".
        name: its dotted name with its module's class, or the key as it is written.
        unordered: a loop over a set or a dict has chosen it.
    """

    kind: str
    name: str
    unordered: bool

    def told(self) -> list[Any]:
        """As a plain value."""
        return [self.kind, self.name, self.unordered]


class Sent:
    """Names of what is sent."""

    def __init__(self) -> None:
        self._files: dict[str, ast.Module | None] = {}
        self._written: dict[tuple[CodeType, int], Written | None] = {}
        self._names: dict[int, tuple[nn.Parameter, str | None]] = {}

    def named(self, frame: FrameType | None, ranks: int) -> tuple[Name | None, int]:
        """Return the name of what the nearest function sends, and a number of a parameter's values."""
        frame = user_frame(frame)
        written = self._read(frame) if frame is not None else None
        if frame is None or written is None:
            return None, 0
        value = _value(frame, written.sent)
        loop, key = chosen_by(written)
        unordered = loop is not None and _is_unordered(frame, loop.iter, written.function)
        if isinstance(value, nn.Parameter):
            name = self._parameter(frame, value)
            return (Name("parameter", name, unordered), _print(value)) if name else (None, 0)
        if not unordered or loop is None or key is None or not isinstance(value, torch.Tensor):
            return None, 0
        if is_added_up(loop, written, key):
            return None, 0
        told = _key_of(frame, loop, key, value)
        if isinstance(told, int) and told in range(ranks):
            return None, 0
        return (Name("key", repr(told), True), 0) if _is_plain(told) else (None, 0)

    def _read(self, frame: FrameType) -> Written | None:
        at = frame.f_code, frame.f_lasti
        if at not in self._written:
            self._written[at] = call_at(self._file(frame.f_code.co_filename), *at)
        return self._written[at]

    def _file(self, name: str) -> ast.Module | None:
        if name not in self._files:
            try:
                self._files[name] = ast.parse("".join(linecache.getlines(name)))
            except SyntaxError:  # a notebook's magic: nothing is named there
                self._files[name] = None
        return self._files[name]

    def _parameter(self, frame: FrameType, parameter: nn.Parameter) -> str | None:
        """Return its name in the first module that the frames around hold."""
        known = self._names.get(id(parameter))
        if known is not None and known[0] is parameter:
            return known[1]
        for module in _modules(frame):
            for name, one in nn.Module.named_parameters(module):
                self._names.setdefault(id(one), (one, f"{type(module).__name__}.{name}"))
            if id(parameter) in self._names:
                break
        return self._names.setdefault(id(parameter), (parameter, None))[1]


def _value(frame: FrameType, node: ast.expr) -> Any:
    """Return what a path stands for, without running anything of the program's; None where unknown."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return variables(frame).get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        return _attribute(_value(frame, node.value), node.attr)
    if isinstance(node, ast.Subscript):
        owner, key = _value(frame, node.value), _value(frame, node.slice)
        if isinstance(owner, dict):
            return dict.get(owner, key) if _is_plain(key) else None
        if isinstance(owner, (list, tuple)) and isinstance(key, int):
            return owner[key] if -len(owner) <= key < len(owner) else None
    return None


def _attribute(owner: Any, name: str) -> Any:
    held = getattr(owner, "__dict__", None)
    if not isinstance(held, dict):
        return None
    inner = [held.get(one) for one in ("_parameters", "_buffers", "_modules")]
    return next(
        (one[name] for one in (held, *inner) if isinstance(one, dict) and name in one), None
    )


def _is_unordered(frame: FrameType, node: ast.expr, function: ast.AST, depth: int = 3) -> bool:
    """Whether what is iterated over has an order that nobody has chosen."""
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    if isinstance(node, ast.BinOp):
        return any(_is_unordered(frame, one, function, 0) for one in (node.left, node.right))
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _SETS:
            return True
        if name in THROUGH and node.args:
            return _is_unordered(frame, node.args[0], function, depth)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _VIEWS:
            held = _value(frame, node.func.value)
            return isinstance(held, dict) or (held is None and node.func.attr == "items")
        return False
    value = _value(frame, node) if is_path(node) else None
    if isinstance(value, (set, frozenset, dict, KeysView)):
        return True
    if not isinstance(value, (list, tuple)) or not isinstance(node, ast.Name) or depth == 0:
        return False
    sets = [
        one.value
        for one in ast.walk(function)
        if isinstance(one, ast.Assign)
        and any(isinstance(to, ast.Name) and to.id == node.id for to in one.targets)
    ]
    return len(sets) == 1 and _is_unordered(frame, sets[0], function, depth - 1)


def _key_of(frame: FrameType, loop: ast.For, key: str, value: torch.Tensor) -> Any:
    """Return the key: the loop's variable, or where the variable is a dict's value, what it stands under."""
    told = variables(frame).get(key, frame.f_globals.get(key))
    if not isinstance(told, torch.Tensor):
        return told
    held = iterated(loop)
    if isinstance(held, ast.Call) and isinstance(held.func, ast.Attribute):
        held = held.func.value
    owner = _value(frame, held)
    if not isinstance(owner, dict):
        return None
    return next((name for name, one in dict.items(owner) if one is value), None)


def _is_plain(key: Any) -> bool:
    if isinstance(key, tuple):
        return all(map(_is_plain, key))
    return isinstance(key, (str, int)) and not isinstance(key, bool)


def _modules(frame: FrameType | None) -> Iterator[nn.Module]:
    """Modules that variables of the frames around hold, or attributes of theirs, from the inside."""
    while frame is not None:
        for held in (variables(frame), frame.f_globals):
            values = list(held.values())
            yield from (one for one in values if isinstance(one, nn.Module))
            for one in values:
                inner = getattr(one, "__dict__", None) if not isinstance(one, type) else None
                if isinstance(inner, dict) and not isinstance(one, nn.Module):
                    yield from (it for it in list(inner.values()) if isinstance(it, nn.Module))
        frame = user_frame(frame.f_back)


def _print(parameter: nn.Parameter) -> int:
    """Return a number that replicas have in common; 0 where that would wait for a device."""
    if parameter.device.type != "cpu" or parameter.layout != torch.strided:
        return 0
    values = parameter.detach().reshape(-1)[:LOOKED_AT].contiguous()
    return zlib.crc32(values.view(torch.uint8).numpy().tobytes()) or 1
