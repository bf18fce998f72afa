"""Which line of a running function put a value where it is: for messages that point at a person's line.

A value is found by identity among a frame's variables and in what they hold; the line is that of the
instruction that stored the variable, or of the call that put the value into its container.
"""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch

from loopwright.observe import graph
from loopwright.observe.instructions import instructions
from loopwright.observe.sites import USER, Position, Site, kind_of, resolve, user_frame, variables

_STORES = ("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF")


@dataclass(slots=True)
class Holder:
    """What keeps a graph alive: a variable, or an attribute of one; ``kind`` is "sum" or "container"."""

    name: str
    kind: str
    position: Position


def stored_at(frame: FrameType, value: Any) -> Position | None:
    """The last instruction before the current one that stored ``value`` in a variable of the frame."""
    for name, held in list(variables(frame).items()):
        if held is value:
            before = [one for one in _stores(frame.f_code, name) if one < frame.f_lasti]
            if before:
                return _statement(frame.f_code, before[-1])
    return None


def node_stored_at(frame: FrameType, node: Any) -> Position | None:
    """The last instruction before the current one that stored the tensor that ``node`` made."""
    for _, held in list(variables(frame).items()):
        if isinstance(held, torch.Tensor) and held.grad_fn is node:
            return stored_at(frame, held)
    return None


def returned_at(frame: FrameType, value: Any) -> Position | None:
    """The one ``return`` of the program's function whose result, ``value``, a variable of the frame holds.

    The function is looked up by its name, or as a method of a variable, without running anything.
    """
    held = dict(variables(frame))
    names = [name for name, one in held.items() if one is value]
    stores = [one for name in names for one in _stores(frame.f_code, name) if one < frame.f_lasti]
    call = None
    for store in sorted(
        stores, reverse=True
    ):  # another name for it, or a loop's, comes from no call
        before = [one for one in instructions(frame.f_code) if one.offset < store]
        if before and before[-1].opname.startswith("CALL"):
            call = before[-1]
            break
    if call is None:
        return None
    at = resolve(frame.f_code, call.offset)
    lines = linecache.getlines(at.file)[at.line - 1 : at.end_line]
    if not lines:
        return None
    lines[-1] = lines[-1][: at.end_column - 1]
    try:
        written = ast.parse("".join(lines)[at.column - 1 :], mode="eval").body
    except SyntaxError:
        return None
    called = written.func if isinstance(written, ast.Call) else None
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        owner = held.get(called.value.id, frame.f_globals.get(called.value.id))
        function = inspect.getattr_static(type(owner), called.attr, None)
    else:
        name = called.id if isinstance(called, ast.Name) else ""
        function = held.get(name, frame.f_globals.get(name))
        if isinstance(function, torch.nn.Module):
            function = type(function).forward
    code = getattr(function, "__code__", None)
    if code is None or kind_of(code.co_filename) != USER:
        return None
    ends = [one.offset for one in instructions(code) if one.opname == "RETURN_VALUE"]
    return resolve(code, ends[0]) if len(ends) == 1 else None


def find_holder(frame: FrameType | None, number: int) -> Holder | None:
    """The variable, in a frame or above it, through which the root with mark ``number`` is reached."""
    key = f"loopwright {number}"
    while frame is not None:
        found = _holder_in(frame, key)
        if found is not None:
            return found
        frame = user_frame(frame.f_back)
    return None


def _holder_in(frame: FrameType, key: str) -> Holder | None:
    for name, value in list(variables(frame).items()):
        if isinstance(value, torch.Tensor):
            if value.grad_fn is not None and _reaches(value.grad_fn, key):
                at = _in_loop(frame, _stores(frame.f_code, name))
                if at is not None:
                    return Holder(name, "sum", _statement(frame.f_code, at))
        elif _holds(value, key):
            at = _in_loop(frame, _uses(frame.f_code, name))
            if at is not None:
                return Holder(name, "container", _statement(frame.f_code, at))
    for name, owner in list(variables(frame).items()):
        if not hasattr(owner, "__dict__") or isinstance(owner, type):
            continue
        for attribute, value in list(vars(owner).items()):
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                kind = "sum" if _reaches(value.grad_fn, key) else None
            else:
                kind = "container" if _holds(value, key) else None
            if kind is not None:
                at = _in_loop(frame, _uses(frame.f_code, attribute))
                if at is None:  # its own method puts it there
                    at = _in_loop(frame, _uses(frame.f_code, name))
                if at is not None:
                    return Holder(f"{name}.{attribute}", kind, _statement(frame.f_code, at))
    return None


def attribute_set(function: Any, name: str) -> Position | None:
    """The last line of a function that sets an attribute of that name."""
    code = getattr(function, "__code__", None)
    found = [
        one.offset
        for one in (instructions(code) if code is not None else ())
        if one.opname == "STORE_ATTR" and one.argval == name
    ]
    return resolve(code, found[-1]) if code is not None and found else None


def attribute_set_anywhere(codes: Iterable[CodeType], name: str) -> Position | None:
    """The first such line in any of ``codes``."""
    for code in codes:
        for one in instructions(code):
            if one.opname == "STORE_ATTR" and one.argval == name:
                return resolve(code, one.offset)
    return None


def item_set_anywhere(codes: Iterable[CodeType], attribute: str, key: str) -> Position | None:
    """The first line in any of ``codes`` that sets ``something.attribute[key]``."""
    for code in codes:
        latest = ""
        for one in instructions(code):
            if one.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                latest = one.argval
            elif one.opname == "LOAD_CONST" and one.argval == key and latest == attribute:
                latest = key
            elif one.opname == "STORE_SUBSCR" and latest == key:
                return resolve(code, one.offset)
            elif one.opname not in _BETWEEN:
                latest = ""
    return None


_BETWEEN = ("CACHE", "EXTENDED_ARG", "COPY", "SWAP", "NOP")


def program_codes(frame: FrameType | None) -> Iterator[CodeType]:
    """The code of a frame and of those above it, and of what their modules define."""
    seen: set[int] = set()
    todo: list[Any] = []
    while frame is not None:
        todo.append(frame.f_code)
        if id(frame.f_globals) not in seen:
            seen.add(id(frame.f_globals))
            for one in list(frame.f_globals.values()):
                todo += vars(one).values() if isinstance(one, type) else (one,)
        frame = user_frame(frame.f_back)
    while todo:
        one = inspect.unwrap(todo.pop(0)) if callable(todo[0]) else todo.pop(0)
        code = one if isinstance(one, CodeType) else getattr(one, "__code__", None)
        if (
            isinstance(code, CodeType)
            and id(code) not in seen
            and kind_of(code.co_filename) == USER
        ):
            seen.add(id(code))
            yield code
            todo += [inner for inner in code.co_consts if isinstance(inner, CodeType)]


_DECORATOR = torch.no_grad()(lambda: None).__code__.co_filename
_WITHOUT = ("no_grad", "inference_mode")
_CUTTING_GRAPH = ("detach", "detach_", "data", "numpy")
_CUTTING = ("detach", "detach_", "data", "numpy", "item", "tolist", "no_grad")


def cut_between(first: Site, second: Site) -> Position | None:
    """The first thing between two calls of one function that takes a tensor out of its graph."""
    if first.code is not second.code:
        return None
    for one in instructions(first.code):
        if first.instruction < one.offset <= second.instruction and one.argval in _CUTTING:
            return resolve(first.code, one.offset)
    return None


def cuts_of_result(site: Site, owner: type) -> list[Position]:
    """Where the variable that holds what a call returned loses its graph later in the same function.

    That is ``variable.detach()`` and its like, a block without gradients that reads it, or a method of
    ``owner`` that is decorated with ``no_grad`` and given it.
    """
    code = site.code
    later = [one for one in instructions(code) if one.offset > site.instruction]
    name = next((one.argval for one in later if one.opname.startswith("STORE_")), None)
    loads = [one for one in later if one.opname.startswith("LOAD_") and one.argval == name]
    lines = {resolve(code, one.offset).line for one in loads}
    found = []
    for one in later:
        at = resolve(code, one.offset)
        if one.argval in _WITHOUT:
            cuts = any(load.offset > one.offset for load in loads)
        elif one.argval in _CUTTING_GRAPH:
            cuts = at.line in lines
        else:
            method = (
                inspect.getattr_static(owner, one.argval, None)
                if isinstance(one.argval, str) and one.argval.isidentifier()
                else None
            )
            wrapper = getattr(method, "__code__", None)
            cuts = wrapper is not None and wrapper.co_filename == _DECORATOR and at.line in lines
        if cuts:
            found.append(at)
    return found


def gives_argument(site: Site, position: int, name: str) -> bool:
    """True when the call at a site gives an argument itself, and does not leave it to its default."""
    names: tuple[str, ...] = ()
    call = before = None
    for one in instructions(site.code):
        if one.offset > site.instruction:  # which may point into the call's inline cache
            break
        if one.opname == "KW_NAMES":
            names = site.code.co_consts[one.arg or 0]
        elif call is not None and call.opname == "CALL":
            names = ()
        before, call = call, one
    if call is None or call.opname not in ("CALL", "CALL_KW"):
        return True  # *args, **kwargs: anything may be in there
    if call.opname == "CALL_KW" and before is not None:  # Python 3.13
        names = before.argval
    return name in names or (call.arg or 0) - len(names) > position


def _reaches(node: Any, key: str, limit: int = 4000) -> bool:
    return any(key in one.metadata for one in graph.nodes(node, limit))


def _holds(value: Any, key: str, depth: int = 2) -> bool:
    if isinstance(value, torch.Tensor):
        return value.grad_fn is not None and _reaches(value.grad_fn, key, 64)
    if depth == 0 or isinstance(value, (str, bytes)):
        return False
    if isinstance(value, dict):
        inner = [*value.values()]
    elif isinstance(value, (list, tuple, set)) or type(value).__name__ == "deque":
        inner = list(value)
    else:
        return False
    return any(_holds(one, key, depth - 1) for one in inner[:32])


def _stores(code: CodeType, name: str) -> list[int]:
    return [
        one.offset for one in instructions(code) if one.opname in _STORES and one.argval == name
    ]


def _uses(code: CodeType, name: str) -> list[int]:
    """Instructions that load a container to change it: followed by an attribute and a call."""
    found = []
    steps = [one for one in instructions(code) if one.opname not in ("CACHE", "PUSH_NULL")]
    for index, one in enumerate(steps):
        if one.argval == name and one.opname.startswith(("LOAD_", "STORE_ATTR")):
            later = steps[index + 1 : index + 2]
            if one.opname == "STORE_ATTR" or any(
                after.opname
                in (
                    "LOAD_METHOD",
                    "LOAD_ATTR",
                    "STORE_SUBSCR",
                    "LOAD_FAST",
                    "LOAD_NAME",
                    "LOAD_CONST",
                )
                for after in later
            ):
                found.append(one.offset)
    return found


def _in_loop(frame: FrameType, offsets: list[int]) -> int | None:
    """The first of ``offsets`` after the current instruction in its innermost loop, else the first in it."""
    loops = [
        (one.argval, one.offset)
        for one in instructions(frame.f_code)
        if one.opname.startswith("JUMP_BACKWARD") and one.argval <= frame.f_lasti <= one.offset
    ]
    start, end = min(loops, key=lambda loop: loop[1] - loop[0], default=(0, 1 << 30))
    inside = [one for one in offsets if start <= one <= end]
    after = [one for one in inside if one > frame.f_lasti]
    return (after or inside or [None])[0]


def _statement(code: CodeType, offset: int) -> Position:
    """The whole line's expression: an instruction that stores has the columns of its target only."""
    return resolve(code, offset)
