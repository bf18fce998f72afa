"""The small change of sentences: how many of how many, shapes, plurals."""

from __future__ import annotations

import math

from loopwright.report.formats import count, number, percent


def shape(sizes: list[int]) -> str:
    """``[32, 64]`` as ``32×64``; a scalar by its name."""
    return "×".join(map(str, sizes)) if sizes else "scalar"


def who(some: int, of: int, names: list[str]) -> str:
    """One by its name, several by their number."""
    if some == 1 and names and (names[0] or of <= 1):
        return f"`{names[0]}`" if names[0] else "a leaf that no variable names"
    return parameters(some, of)


def parameters(some: int, of: int) -> str:
    """``all 4 parameters``, ``both parameters``, ``2 of 4 parameters``, ``the only parameter``."""
    if of <= 1:
        return "the only parameter"
    if some >= of:
        return "both parameters" if of == 2 else f"all {count(of)} parameters"
    return f"{count(some)} of {count(of)} parameters"


def many(some: int, one: str, more: str = "") -> str:
    """``1 leaf``, ``4 leaves``.

    >>> many(1, "leaf", "leaves"), many(2, "step")
    ('1 leaf', '2 steps')
    """
    return f"{count(some)} {one if some == 1 else more or one + 's'}"


def share_of(part: float, whole: float) -> str:
    """In percent, with as many digits as it takes to be more than 0."""
    share = part / whole
    small = 0 < share < 1e-4
    return percent(share, 1 - math.floor(math.log10(100 * share)) if small else 2)


def listed(values: list[float]) -> str:
    """``[1, 2]``."""
    return f"[{', '.join(number(one) for one in values)}]"


def capital(text: str) -> str:
    """A sentence begins with a capital, unless it begins with code."""
    return text[:1].upper() + text[1:] if text[:1].isalpha() else text


def duration(seconds: float) -> str:
    """In the unit that fits."""
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"


def generator(name: str) -> str:
    """Whose it is."""
    return {"torch": "torch's generator", "python": "Python's `random`", "numpy": "numpy's generator",
            "cuda": "the GPU's generator"}[name]  # fmt: skip
