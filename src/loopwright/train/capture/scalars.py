"""The numbers by which one update of an optimizer differs from the next: learning rate, bias corrections.

What an optimizer computes in Python stands in its operations as plain numbers. Which of them change is
seen by recording two updates, one of them with another learning rate and much later; what they are is
recognised by both values, for which this module knows the formulas. From then on each update gets its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from loopwright.train.capture.record import Operation, Refused
from loopwright.train.capture.state import Options

OTHER_LR = 0.7310585786300049
"""Factor of the learning rate in the second recording; no product with it is met by chance. Of the second
group it is half of that, and so on: rates that are the same now need not be so later."""


LATER = 1009
"""Updates between the two recordings: RAdam begins with a factor that is 0 for five updates. A prime, so that
it is no multiple of what an optimizer does now and then."""


class Number(float):
    """A number that is another one at each update: ``place`` is where it stands in what ``of`` returns."""

    place = -1


def of(optimizer: torch.optim.Optimizer, ahead: int = 0) -> list[float]:
    """Return the numbers of the coming update, in a fixed order, for all groups one after the other.

    Args:
        optimizer: any of torch's.
        ahead: updates between now and that one, with the rates that the groups have now.

    ``lr``, ``-lr``, decoupled decay ``1 - lr · wd``; and with a step counter ``n`` after it was raised:
    Adam's ``-lr / (1 - beta1^n)`` and ``sqrt(1 - beta2^n)``, in the arithmetic of torch's
    ``_single_tensor_adam``.
    """
    numbers: list[float] = []
    for group in optimizer.param_groups:
        lr = float(group["lr"])
        numbers += [lr, -lr, 1 - lr * float(group.get("weight_decay", 0.0))]
        step = _step(optimizer, group) if "betas" in group else None
        if step is not None:
            beta1, beta2 = map(float, group["betas"])
            step += ahead
            correction = 1 - beta1**step
            numbers += [-(lr / correction), (1 - beta2**step) ** 0.5]
        else:
            numbers += [0.0, 0.0]
    return numbers


def looked_at(optimizer: torch.optim.Optimizer) -> set[int]:
    """Return the ids of those tensors at which an optimizer may look on the host: counters and options.

    A number that it takes from gradients or weights is another one at each update.
    """
    kept = [value for state in optimizer.state.values() for value in state.values()]
    options = [value for group in optimizer.param_groups for value in group.values()]
    return {id(one) for one in [*kept, *options] if isinstance(one, torch.Tensor) and one.ndim == 0}


@contextmanager
def tried(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Put back what updates may move beside tensors, which the caller does.

    Raises:
        Refused: they move an attribute of the optimizer's own: what it counts there it may go by.
    """
    options, before = Options(optimizer), dict(vars(optimizer))
    try:
        yield
        for name, value in vars(optimizer).items():
            then = before.get(name)
            if value is not then and not (isinstance(value, (bool, int, float)) and value == then):
                raise Refused(f"the optimizer's own {name!r} is another one at each update")
    finally:
        options.put_back()


@contextmanager
def much_later(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let the counters stand where they are `LATER` updates later, and the rates be others.

    The rates are put back at the end; the counters, which updates move as well, by the caller.
    """
    groups = optimizer.param_groups
    rates = [group["lr"] for group in groups]
    try:
        for place, (group, rate) in enumerate(zip(groups, rates, strict=True), 1):
            group["lr"] = (rate or rate + 1.0) * OTHER_LR / place  # one of 0 moves, too
        for state in optimizer.state.values():
            if isinstance(step := state.get("step"), torch.Tensor):
                step += LATER
        yield
    finally:
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate


def stand_still(optimizer: torch.optim.Optimizer) -> bool:
    """Whether all updates have the same numbers as long as nobody changes the groups."""
    return not any("betas" in group for group in optimizer.param_groups)


def _step(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> float | None:
    """Return the counter of the group's first parameter as the coming update sees it."""
    for parameter in group["params"]:
        step = optimizer.state.get(parameter, {}).get("step")
        if step is not None:
            return float(step) + 1
    return None


def counters_agree(optimizer: torch.optim.Optimizer) -> bool:
    """Whether all parameters of each group have made the same number of updates."""
    for group in optimizer.param_groups:
        steps = {
            float(optimizer.state[p]["step"])
            for p in group["params"]
            if "step" in optimizer.state.get(p, {})
        }
        if len(steps) > 1:
            return False
    return True


def apart(optimizer: torch.optim.Optimizer) -> list[float | None]:
    """Return how many more updates each parameter has made than the first, None for one without a counter.

    While these stay the same, each counter is known by the counter that ``of`` looks at.
    """
    steps = [
        optimizer.state.get(parameter, {}).get("step")
        for group in optimizer.param_groups if "betas" in group for parameter in group["params"]
    ]  # fmt: skip
    counts = [None if step is None else float(step) for step in steps]
    first = next((count for count in counts if count is not None), 0.0)
    return [None if count is None else count - first for count in counts]


def recognised(
    one: Sequence[Operation], other: Sequence[Operation], numbers: list[float], others: list[float]
) -> list[Operation]:
    """Return the first of two recordings of an update, with a `Number` where the two differ.

    Args:
        one: of the update with ``numbers``.
        other: of one with ``others``.
        numbers: what ``of`` returned before the first.
        others: what it returned before the second.

    Raises:
        Refused: the two are not the same operations, or a number is none of those that are known.
    """
    if [op.function for op in one] != [op.function for op in other]:
        raise Refused("the optimizer's updates are not all alike")
    pairs = list(zip(numbers, others, strict=True))

    def both(a: Any, b: Any) -> Any:
        if isinstance(a, float) and isinstance(b, float) and a != b:
            if (a, b) not in pairs:
                raise Refused(
                    f"the optimizer computes a number ({a}, then {b}) in a way that is not known"
                )
            found = Number(a)
            # the last one: where the rate is 0, -lr and Adam's -lr / (1 - beta1^n) are the same two numbers
            found.place = len(pairs) - 1 - pairs[::-1].index((a, b))
            return found
        if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
            return [both(x, y) for x, y in zip(a, b, strict=True)]
        if isinstance(a, int) and a != b:
            raise Refused(f"the optimizer computes a whole number ({a}, then {b})")
        return a

    return [
        Operation(x.function, [both(a, b) for a, b in zip(x.arguments, y.arguments, strict=True)], x.outputs)
        for x, y in zip(one, other, strict=True)
    ]  # fmt: skip
