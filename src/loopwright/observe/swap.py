"""Puts a hook behind a function without replacing it: the function object keeps its identity.

Only ``function.__code__`` is exchanged, for code that calls the hook with the same arguments. So
``from torch.nn.functional import cross_entropy`` is seen whenever it was imported, ``is`` and pickles by
name stay as they were, ``inspect.signature`` and ``torch.jit.script`` find the original signature, source
and globals, and Dynamo's tables, which go by identity, still know the function. Restoring is one
assignment. Methods that are written in C have no code: those get an attribute on a Python subclass, which
is deleted again.

Cost: a hook that does nothing adds 0.12 µs to a call, and 0.3 where the arguments are ``*args, **kwargs``,
which are packed anew for each function that they go through. Where calls are many and most of them nobody's
concern, ``Straight`` lets these through in the exchanged code itself.
"""

from __future__ import annotations

import builtins
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, Protocol

PREFIX = "__loopwright_"
_VARIADIC, _KEYWORDS = 0x04, 0x08


class Patch(Protocol):
    """Something that was exchanged and can be put back."""

    def restore(self) -> None:
        """Put back what was there."""


@dataclass(frozen=True)
class Straight:
    """When a call is no concern of the hook: both texts are Python, in the function's own parameters."""

    condition: str
    result: str
    """What the function itself does then, written out: a call of ``original`` would pack arguments again."""
    names: dict[str, Any]
    """What else the condition mentions."""


class CodeSwap:
    """One function whose code calls ``hook(*its arguments)``; ``original`` is the function as it was.

    It can be ``lifted`` in between, and ``put`` again. With ``rests`` that is done while nobody listens;
    where ``resting`` is given, calls of which it is true go straight through meanwhile.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        make_hook: Callable[[Any], Any],
        straight: Straight | None = None,
        resting: Straight | None = None,
        *,
        rests: bool = False,
    ):
        self.rests = rests or resting is not None
        self.function = plain_function(function)
        self.code = self.function.__code__
        self.original = _copy(self.function)
        # Looked up among the builtins: no module gains a name, and Dynamo can follow it.
        name = f"{PREFIX}{id(self.function):x}__"
        self.names = {name: make_hook(self.original)}
        awake, at_rest = (self._straight(name, one) for one in (straight, resting))
        for one, value in self.names.items():
            setattr(builtins, one, value)
        self.hooked = _calling(self.code, name, awake or "pass")
        self.lifted = _calling(self.code, name, at_rest) if at_rest else self.code
        self.put()

    def _straight(self, name: str, straight: Straight | None) -> str:
        """The statement; what it mentions goes to ``names``."""
        if straight is None:
            return ""
        longer = {short: f"{name}{short}__" for short in straight.names}
        self.names |= {longer[short]: value for short, value in straight.names.items()}
        condition = re.sub(r"\w+", lambda one: longer.get(one[0], one[0]), straight.condition)
        return f"if {condition}: return {straight.result}"

    def put(self) -> None:
        """Give the function the code that calls the hook."""
        self.function.__code__ = self.hooked

    def lift(self) -> None:
        """Give the function its own code, or the code for a time of rest."""
        self.function.__code__ = self.lifted

    def restore(self) -> None:
        """Put the function's own code back, for good."""
        self.function.__code__ = self.code
        for name in self.names:
            delattr(builtins, name)


class AttributePatch:
    """One attribute of a class or module, set for a while; one that was not there before is deleted.

    It can be ``lifted`` in between, and ``put`` again: a hook on a method costs 0.5 µs a call, also where it
    does nothing, and an optimizer calls some for each of its parameters.
    """

    def __init__(
        self, owner: Any, name: str, make_hook: Callable[[Any], Any], *, rests: bool = False
    ):
        self.rests = rests
        self.owner, self.name = owner, name
        self.own = name in vars(owner)
        self.before = vars(owner).get(name)
        self._hook = make_hook(getattr(owner, name))
        self.there = False
        self.put()

    def put(self) -> None:
        """Set the hook, where it is not."""
        if not self.there:
            self.there = True
            setattr(self.owner, self.name, self._hook)

    def lift(self) -> None:
        """Put back what was there before, where it is not."""
        if self.there:
            self.there = False
            if self.own:
                setattr(self.owner, self.name, self.before)
            else:
                delattr(self.owner, self.name)

    def restore(self) -> None:
        """Put the attribute back."""
        self.lift()


def anything_compiled() -> bool:
    """Whether Dynamo has compiled something: its guards would see attributes of torch come and go."""
    backends = getattr(sys.modules.get("torch._dynamo.eval_frame"), "cached_backends", {})
    return any(one is not None for one in backends.values())  # None: something was kept from it


def plain_function(function: Callable[..., Any]) -> FunctionType:
    """The Python function under its decorators.

    Raises:
        TypeError: there is none (a C function has no code that could be exchanged).
    """
    found = inspect.unwrap(function)
    if not isinstance(found, FunctionType):
        raise TypeError(f"{function!r} has no code that could be exchanged")
    return found


def _copy(function: FunctionType) -> FunctionType:
    copied = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    copied.__module__, copied.__qualname__ = function.__module__, function.__qualname__
    return copied


def _calling(code: CodeType, hook: str, first: str) -> CodeType:
    """Code with the same parameters that does ``first``, and returns ``hook(parameters)``.

    Defaults belong to the function, not to its code, and go on applying.
    """
    positional, keyword_only = code.co_argcount, code.co_kwonlyargcount
    named = positional + keyword_only
    variadic, keywords = bool(code.co_flags & _VARIADIC), bool(code.co_flags & _KEYWORDS)
    names = list(code.co_varnames[: named + variadic + keywords])
    takes = names[:positional]
    if code.co_posonlyargcount:
        takes.insert(code.co_posonlyargcount, "/")
    gives = names[:positional]
    if variadic:
        takes.append(f"*{names[named]}")
        gives.append(f"*{names[named]}")
    elif keyword_only:
        takes.append("*")
    takes += names[positional:named]
    gives += [f"{name}={name}" for name in names[positional:named]]
    if keywords:
        takes.append(f"**{names[-1]}")
        gives.append(f"**{names[-1]}")
    # A function keeps its closure too, so the code must name as many free variables (``__class__``).
    free = code.co_freevars
    source = (
        f"def outer({', '.join(free)}):\n"
        f"    def f({', '.join(takes)}):\n"
        f"        {'; '.join(free) or 'pass'}\n"
        f"        {first}\n"
        f"        return {hook}({', '.join(gives)})\n"
        f"    return f\n"
    )
    space: dict[str, Any] = {}
    exec(source, space)  # noqa: S102  our own lines, made of a function's parameter names
    return space["outer"](*free).__code__.replace(
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_filename=code.co_filename,
        co_firstlineno=code.co_firstlineno,
    )
