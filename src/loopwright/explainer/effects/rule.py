"""The update of one weight, written out with its numbers and checked against what torch did.

SGD:    d = g + λ·w;  b ← μ·b + (1−τ)·d (the first time b = d);  d = d + μ·b with Nesterov, else b;  w ← w −
η·d Adam:   g += λ·w;  m ← β₁·m + (1−β₁)·g;  v ← β₂·v + (1−β₂)·g²;  w ← w − η·(m/(1−β₁ᵗ)) / (√(v/(1−β₂ᵗ)) +
ε) AdamW:  w ← w − η·λ·w first, then as Adam without λ

Source: torch.optim.SGD, Adam, AdamW (their documentation's algorithms). Computed in float64; torch computes
in the parameter's dtype, so agreement means within a few roundings of that dtype.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import torch

from loopwright.events.explained import RuleNote
from loopwright.explainer.effects import values
from loopwright.observe import content

RULES = ("SGD", "Adam", "AdamW")
ROUNDINGS = 8
SEARCHED = 1 << 20
FEWEST, MORE = 5, 5
"""Digits of a number that is written out, and how many counts of them are tried."""


class Chosen:
    """The weight that is followed, and what it was like before a step."""

    def __init__(self, parameter: torch.Tensor, index: int):
        self.parameter = weakref.ref(parameter)
        self.index = index
        self.before: dict[str, float] = {}


def choose(optimizer: Any) -> Chosen | None:
    """A weight whose gradient is largest in the first matrix that has one."""
    if type(optimizer).__name__ not in RULES or not type(optimizer).__module__.startswith("torch."):
        return None
    found = [p for group in optimizer.param_groups for p in group["params"]
             if p.grad is not None and content.readable(p) and content.readable(p.grad)
             and p.is_floating_point()]  # fmt: skip
    with values.quiet():
        for parameter in sorted(found, key=lambda one: one.dim() < 2):
            grads = values._flat(parameter.grad)[:SEARCHED].abs()
            if grads.numel() and float(grads.max()) > 0:
                return Chosen(parameter, int(grads.argmax()))
    return None


def before_step(optimizer: Any, chosen: Chosen) -> None:
    """Note the weight, its gradient and its state."""
    parameter = chosen.parameter()
    chosen.before = {}
    if parameter is None or parameter.grad is None:
        return
    with values.quiet():
        state = optimizer.state.get(parameter, {})
        chosen.before = {"w": _at(parameter, chosen.index), "g": _at(parameter.grad, chosen.index)}
        for key in ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
            if isinstance(state.get(key), torch.Tensor):
                chosen.before[key] = _at(state[key], chosen.index)
        chosen.before["step"] = float(state.get("step", 0))


def after_step(optimizer: Any, chosen: Chosen, called: str, name: str) -> RuleNote | None:
    """The rule with its numbers; None where the weight had no gradient."""
    parameter = chosen.parameter()
    if parameter is None or not chosen.before:
        return None
    group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    with values.quiet():
        after = _at(parameter, chosen.index)
    work = _sgd if type(optimizer).__name__ == "SGD" else _adam
    numbers = {key: float(group[key]) for key in ("lr", "momentum", "dampening", "weight_decay", "eps")
               if isinstance(group.get(key), (int, float, torch.Tensor))}  # fmt: skip
    computed, symbols, steps = work(optimizer, group, numbers, chosen.before, after)
    smallest = torch.finfo(parameter.dtype).eps
    moved = abs(computed - chosen.before["w"])
    tolerance = ROUNDINGS * smallest * (abs(chosen.before["w"]) + moved)
    return RuleNote(
        called,
        name,
        list(_unravel(chosen.index, parameter.shape)),
        chosen.before["w"],
        chosen.before["g"],
        after,
        computed,
        abs(after - computed) <= tolerance,
        steps,
        symbols,
        {**numbers, **chosen.before},
    )


def _at(tensor: torch.Tensor, index: int) -> float:
    return float(values._flat(tensor)[index])


def _unravel(index: int, shape: torch.Size) -> list[int]:
    found = []
    for size in reversed(shape):
        found.append(index % size)
        index //= size
    return found[::-1]


def digits(value: float, change: float) -> int:
    """How many digits of ``value`` show three of ``change``.

    >>> digits(0.5231, 0.000372), digits(1.0, 0.5)
    (6, 4)
    """
    if not change or not math.isfinite(change) or not math.isfinite(value):
        return 4
    place = 3 - math.floor(math.log10(abs(change))) - 1
    return max(4, min(12, place))


def _sgd(
    optimizer: Any, group: dict[str, Any], n: dict[str, float], b: dict[str, float], after: float
) -> tuple[float, list[str], list[str]]:
    del optimizer
    w, grad, lr = b["w"], b["g"], n["lr"]
    rows: list[tuple[str, str]] = []
    if group.get("maximize"):
        rows.append(("g = −.grad", f"g = {-grad:.5g}"))
        grad = -grad
    d, letter = grad, "g"
    if n["weight_decay"]:
        d = grad + n["weight_decay"] * w
        decay, plain = n["weight_decay"], grad
        shown = _sum("d =", lambda k: f"{plain:.{k}g} + {decay:g} · {w:.{k}g}", d)
        rows.append(("d = g + λ·w", shown))
        letter = "d"
    if n["momentum"]:
        old = b.get("momentum_buffer")
        if old is None:
            buffer = d
            rows.append((f"b = {letter} (the first time)", f"b = {buffer:.5g}"))
        else:
            buffer = n["momentum"] * old + (1 - n["dampening"]) * d
            share = f"(1 − {n['dampening']:g}) · " if n["dampening"] else ""
            mu, new = n["momentum"], d
            shown = _sum("b ←", lambda k: f"{mu:g} · {old:.{k}g} + {share}{new:.{k}g}", buffer)
            rows.append((f"b ← μ·b + {'(1−τ)·' if share else ''}{letter}", shown))
        if group.get("nesterov"):
            step = d + n["momentum"] * buffer
            mu, new = n["momentum"], d
            shown = _sum("n =", lambda k: f"{new:.{k}g} + {mu:g} · {buffer:.{k}g}", step)
            rows.append((f"n = {letter} + μ·b", shown))
            d, letter = step, "n"
        else:
            d, letter = buffer, "b"
    result = w - lr * d
    rows.append((f"w ← w − η·{letter}", _last(w, lr, d, after)))
    return result, [row[0] for row in rows], [row[1] for row in rows]


def _adam(
    optimizer: Any, group: dict[str, Any], n: dict[str, float], b: dict[str, float], after: float
) -> tuple[float, list[str], list[str]]:
    w, grad, lr, eps = b["w"], b["g"], n["lr"], n["eps"]
    beta1, beta2 = (float(one) for one in group["betas"])
    rows: list[tuple[str, str]] = []
    if group.get("maximize"):
        rows.append(("g = −.grad", f"g = {-grad:.5g}"))
        grad = -grad
    decay = n["weight_decay"]
    decoupled = type(optimizer).__name__ == "AdamW" or bool(group.get("decoupled_weight_decay"))
    start, plain = w, grad
    if decay and decoupled:
        start = w - lr * decay * w
        places = digits(w, lr * decay * w)
        shown = _sum("w ←", lambda k: f"{w:.{k}g} − {lr:g} · {decay:g} · {w:.{k}g}", start, places)
        rows.append(("w ← w − η·λ·w", shown))
    elif decay:
        shown = _sum("g ←", lambda k: f"{plain:.{k}g} + {decay:g} · {w:.{k}g}", plain + decay * w)
        rows.append(("g ← g + λ·w", shown))
        grad += decay * w
    old_m, old_v, t = b.get("exp_avg", 0.0), b.get("exp_avg_sq", 0.0), b["step"] + 1
    m = beta1 * old_m + (1 - beta1) * grad
    v = beta2 * old_v + (1 - beta2) * grad * grad
    moving = _sum("m ←", lambda k: f"{beta1:g} · {old_m:.{k}g} + {1 - beta1:.3g} · {grad:.{k}g}", m)
    squares = f"{1 - beta2:.3g} · "
    spread = _sum("v ←", lambda k: f"{beta2:g} · {old_v:.{k}g} + {squares}{_squared(grad, k)}", v)
    rows += [("m ← β₁·m + (1−β₁)·g", moving), ("v ← β₂·v + (1−β₂)·g²", spread)]
    if group.get("amsgrad"):
        v = max(b.get("max_exp_avg_sq", 0.0), v)
        rows.append(("v = the largest so far", f"v = {v:.5g}"))
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    rows.append(("m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)", f"m̂ = {m_hat:.5g}, v̂ = {v_hat:.5g} (t = {t:.0f})"))
    direction = m_hat / (math.sqrt(v_hat) + eps)
    rows.append(("w ← w − η·m̂/(√v̂ + ε)", _last(start, lr, direction, after)))
    return start - lr * direction, [row[0] for row in rows], [row[1] for row in rows]


def _last(w: float, lr: float, direction: float, after: float) -> str:
    """Like ``w ← 0.5231 − 0.01 · 0.0372 = 0.5227``; the result is torch's."""
    places = digits(w, lr * direction)
    sign, size = ("−", direction) if direction >= 0 else ("+", -direction)

    def write(k: int) -> str:
        return f"{w:.{places + k - FEWEST}f} {sign} {lr:g} · {size:.{k}g}"

    return _sum("w ←", write, after, shown=lambda value, k: f"{value:.{places + k - FEWEST}f}")


def _sum(
    letter: str,
    write: Callable[[int], str],
    result: float,
    fewest: int = FEWEST,
    shown: Callable[[float, int], str] = lambda value, k: f"{value:.{k}g}",
) -> str:
    """Numbers and their result, with the fewest digits from which a reader gets the same result.

    >>> _sum("b ←", lambda k: f"0.9 · {2 / 3:.{k}g} + {1 / 7:.{k}g}", 0.9 * 2 / 3 + 1 / 7)
    'b ← 0.9 · 0.66667 + 0.14286 = 0.74286'
    """
    for k in range(fewest, fewest + MORE):
        text = write(k)
        plain = text.translate(str.maketrans("·−", "*-")).replace("²", "**2")
        try:
            again = eval(plain, {"__builtins__": {}, "nan": math.nan, "inf": math.inf})  # noqa: S307  ours
        except OverflowError:  # the square of a gradient that explodes
            again = math.inf
        if shown(again, fewest) == shown(result, fewest):
            return f"{letter} {text} = {shown(result, fewest)}"
    return f"{letter} {write(fewest)} = {shown(result, fewest)}"


def _squared(value: float, digits: int) -> str:
    """A minus sign is squared too."""
    return f"({value:.{digits}g})²" if value < 0 else f"{value:.{digits}g}²"
