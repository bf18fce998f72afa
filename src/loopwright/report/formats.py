"""Numbers as people read them, the same in the page, the terminal and the tables."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Literal

MISSING = "–"
SPACE = "\N{NO-BREAK SPACE}"

_SHARES = re.compile(
    r"acc|f1|precision|recall|top_?\d|auc|auroc|iou|dice|specificity", re.IGNORECASE
)
_HIGHER = re.compile(r"(^|_)(r2|score|bleu|reward|map|psnr|ssim)", re.IGNORECASE)
_LOWER = re.compile(r"loss|err|mae|mse|rmse|perplexity|ppl|wer|cer|nll|bits|fid", re.IGNORECASE)


def to_float(value: Any) -> float:
    """The number that ``value`` stands for; NaN for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def direction(name: str) -> Literal["max", "min"] | None:
    """Which way a metric of this name improves, as far as its name tells."""
    if _LOWER.search(name):
        return "min"
    return "max" if _SHARES.search(name) or _HIGHER.search(name) else None


def is_share(name: str) -> bool:
    """Whether a metric of this name is a part of one, shown in percent."""
    return bool(_SHARES.search(name)) and not _LOWER.search(name)


def column(name: str, values: Sequence[float | None]) -> list[str]:
    """A table's column: the same number of decimals in every cell, so that the eye can compare."""
    finite = [abs(v) for v in values if v is not None and math.isfinite(v)]
    top = max(finite, default=0.0)
    if is_share(name) and top <= 1:
        return [metric(name, v) for v in values]
    if not 1e-3 <= top < 1e7:
        return [number(v) for v in values]
    power = math.floor(math.log10(top))
    digits = max(0, 4 - max(power, 0) - min(power + 1, 0))
    if all(v == int(v) for v in finite):
        digits = 0
    return [f"{v:,.{digits}f}" if v is not None and math.isfinite(v) else number(v) for v in values]


def number(value: Any) -> str:
    """Four significant digits; thousands separated; NaN and infinities by name."""
    if value is None:
        return MISSING
    x = to_float(value)
    if math.isnan(x):
        return "NaN"
    if math.isinf(x):
        return "∞" if x > 0 else "-∞"
    if x == 0:
        return "0"
    if abs(x) >= 1e7 or abs(x) < 1e-4:
        return re.sub(r"e([+-])0*(\d)", lambda m: f"e{'-' * (m[1] == '-')}{m[2]}", f"{x:.3g}")
    if x == int(x) or abs(x) >= 1e4:
        return f"{x:,.0f}"
    return f"{x:,.1f}" if abs(x) >= 1e3 else f"{x:.4g}"


def apart(*values: float) -> list[str]:
    """Each as ``number`` writes it, or with as many digits as it takes to see that they are not the same.

    >>> apart(1.5149, 1.5147), apart(1.5, 2.25)
    (['1.5149', '1.5147'], ['1.5', '2.25'])
    """
    told = [number(one) for one in values]
    for digits in range(5, 10):
        if len(set(told)) >= len(set(values)):
            break
        told = [f"{one:,.{digits}g}" for one in values]
    return told


def count(value: Any) -> str:
    """A whole number with separated thousands."""
    x = to_float(MISSING if value is None else value)
    return f"{x:,.0f}" if math.isfinite(x) else (MISSING if value is None else number(x))


def percent(share: float, digits: int = 1) -> str:
    """``0.9806`` as ``98.1 %``."""
    return f"{100 * share:.{digits}f}{SPACE}%" if math.isfinite(share) else number(share)


def metric(name: str, value: Any) -> str:
    """A metric's value: shares such as accuracy in percent, everything else as a number."""
    x = to_float(value)
    if value is not None and is_share(name) and 0 <= x <= 1:
        return percent(x, 2)
    return number(value)


def duration(seconds: Any) -> str:
    """Seconds in the two largest units that matter."""
    x = to_float(seconds)
    if not math.isfinite(x) or x < 0:
        return MISSING
    if x < 0.1:
        return f"{1000 * x:.3g}{SPACE}ms"
    if x < 59.95:
        return f"{x:.3g}{SPACE}s" if x < 10 else f"{x:.1f}{SPACE}s"
    whole = round(x)
    for size, unit, below, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size}{SPACE}{unit} {whole % size // below}{SPACE}{small}"
    return f"{whole // 60}{SPACE}min {whole % 60:02d}{SPACE}s"


def size(n_bytes: Any) -> str:
    """Bytes in decimal units."""
    x = to_float(n_bytes)
    if not math.isfinite(x):
        return MISSING
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(x) < 1000:
            return f"{x:.0f}{SPACE}B" if unit == "B" else f"{x:.3g}{SPACE}{unit}"
        x /= 1000
    return f"{x:.3g}{SPACE}PB"


def large(value: Any) -> str:
    """A large count in short: ``1.24 M``."""
    x = to_float(value)
    if not math.isfinite(x) or abs(x) < 10_000:
        return count(value)
    for unit in ("k", "M", "G", "T"):
        x /= 1000
        if abs(x) < 999.5:
            return f"{x:.3g}{SPACE}{unit}"
    return f"{x / 1000:.3g}{SPACE}P"


def plain(value: Any) -> str:
    """A setting's value on one line, as a person would write it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: MISSING}[value]
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else number(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(v) for v in value) or MISSING
    return str(value)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names with printed values, in the order in which they stand."""
    rows: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            rows |= flatten(value, f"{name}.")
        else:
            rows[name] = plain(value) if value != {} else MISSING
    return rows
