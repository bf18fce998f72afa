"""A function's bytecode in one language for all Pythons.

Later ones have instructions that do two things at once (3.13: ``LOAD_FAST_LOAD_FAST``), or the same in
another way (3.12: ``RETURN_CONST``; 3.14: ``LOAD_FAST_BORROW``). They are given as the instructions of 3.11
that they stand for, so that who reads them looks for one name.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType

_STANDS_FOR = {
    "LOAD_FAST_LOAD_FAST": ("LOAD_FAST", "LOAD_FAST"),
    "LOAD_FAST_BORROW_LOAD_FAST_BORROW": ("LOAD_FAST", "LOAD_FAST"),
    "STORE_FAST_LOAD_FAST": ("STORE_FAST", "LOAD_FAST"),
    "STORE_FAST_STORE_FAST": ("STORE_FAST", "STORE_FAST"),
    "LOAD_FAST_BORROW": ("LOAD_FAST",),
    "LOAD_FAST_CHECK": ("LOAD_FAST",),
    "LOAD_SMALL_INT": ("LOAD_CONST",),
    "RETURN_CONST": ("LOAD_CONST", "RETURN_VALUE"),
}


def instructions(code: CodeType) -> Iterator[dis.Instruction]:
    """Yield what ``dis.get_instructions`` does; parts of one instruction share its offset.

    >>> [
    ...     one.argval
    ...     for one in instructions((lambda a, b: a + b).__code__)
    ...     if one.opname == "LOAD_FAST"
    ... ]
    ['a', 'b']
    """
    for one in dis.get_instructions(code):
        names = _STANDS_FOR.get(one.opname)
        if names is None:
            yield one
            continue
        values = one.argval if isinstance(one.argval, tuple) and len(names) > 1 else None
        for part, name in enumerate(names):
            value = one.argval if values is None else values[part]
            if name == "RETURN_VALUE":
                yield one._replace(opname=name, arg=None, argval=None, argrepr="")
            else:
                yield one._replace(opname=name, argval=value, argrepr=str(value))
