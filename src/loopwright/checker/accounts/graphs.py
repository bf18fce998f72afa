"""The graph account, second half: what is kept alive after it was used.

Each root that went through ``backward`` gets a mark in its node; the mark dies with the node. A sum or a
list of losses keeps one more graph alive at each step, and shows as a number that grows by one.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from types import FrameType
from typing import Any

import torch

from loopwright.checker.accounts.tally import Tally
from loopwright.events import Event
from loopwright.observe import content, graph
from loopwright.observe.content import is_power_of_two
from loopwright.observe.sites import Site, user_frame
from loopwright.observe.storing import (
    Holder,
    find_holder,
    node_stored_at,
    returned_at,
    stored_at,
)

ELEMENTWISE = (
    "Pow", "Abs", "Mul", "Add", "Sub", "Rsub", "Div", "Neg", "Clamp", "Where", "Sqrt", "Log", "Cosh",
    "Maximum", "Minimum", "Relu", "Softplus",
)  # fmt: skip
"""Operations that losses by hand are made of, below their mean; kernels of pairs are made with Exp."""


class Kept:
    """Graphs of one backward place."""

    def __init__(self) -> None:
        self.alive: dict[weakref.ref[graph.Mark], int] = {}
        self.passes = 0
        self.most = 0
        self.steady = 0
        """Passes since the number last grew."""
        self.longest_steady = 0
        self.nodes = 0
        self.holder: Holder | None = None


class Graphs:
    """The account; see the module."""

    def __init__(self) -> None:
        self.kept: dict[Site, Kept] = {}
        self.outputs: dict[Site, Kept] = {}
        """As ``kept``, of what models returned: by the place of the call."""
        self._output: dict[Site, tuple[int, graph.Mark]] = {}
        self.retained = Tally()
        self._open_retained: list[tuple[Site, weakref.ref[graph.Mark]]] = []
        self.nonfinite = Tally()
        self.clamped = Tally()
        self.broadcast = Tally()
        self.roots = Counter[Site]()

    def after_forward(self, event: Event) -> None:
        """What a model returned is used by the next backward pass, if one comes before its next call."""
        output = event.result
        if not isinstance(output, torch.Tensor) or output.grad_fn is None or event.failed:
            return
        if len(self._output) < 16:
            number = event.number
            self._output[event.site] = number, graph.mark(output.grad_fn, number)

    def before_backward(self, event: Event) -> None:
        """Look at the root before its graph is freed."""
        self._judge_retained()
        root = event.subject
        if not isinstance(root, torch.Tensor) or root.grad_fn is None:
            return
        self.roots[event.site] += 1
        if is_power_of_two(self.roots[event.site]) and content.readable(root):
            with content.quiet():
                if root.numel() == 1 and not bool(torch.isfinite(root.detach()).all()):
                    self.nonfinite.add(event.site, backward=event.site).facts["value"] = float(root)
                self._near_root(event, root)

    def _near_root(self, event: Event, root: torch.Tensor) -> None:
        terms = _terms(root.grad_fn)
        found = [one for one in map(_square, terms) if one is not None]
        if len(found) == 1 and found[0][1] is not None:
            self._spread(
                event, *found[0]
            )  # several are distances between all pairs, which are meant
        for node in terms:
            shapes = _weighed(node)
            if shapes is not None:
                self._spread(event, node, *shapes)
        node = root.grad_fn
        for _ in range(4):
            if node is None:
                return
            if node.name().startswith("Clamp") and graph.shape_of(node) == ():
                high = graph.saved(node, "max")
                value = graph.saved(node, "self")
                if (
                    high is not None
                    and isinstance(value, torch.Tensor)
                    and float(value) > float(high)
                ):
                    seen = self.clamped.add(event.site, backward=event.site)
                    seen.facts |= {"value": float(value), "max": float(high)}
            elif node.name().startswith(("Mean", "Sum")):
                return
            below = [inner for inner, _ in node.next_functions if inner is not None]
            if len(below) != 1:
                return
            node = below[0]

    def _spread(self, event: Event, node: Any, given: Any, joint: Any, weights: Any = None) -> None:
        """(prediction - target) ** 2, or losses * weights, larger than what it was made of."""
        seen = self.broadcast.add(event.site, backward=event.site)
        seen.facts |= {"given": given, "joint": joint, "weights": weights}
        frame = _frame_of(event.site)
        if frame is not None:
            at = None if event.subject.grad_fn is node else node_stored_at(frame, node)
            at = at or returned_at(frame, event.subject) or stored_at(frame, event.subject)
            seen.facts["position"] = at

    def after_backward(self, event: Event) -> None:
        """Mark the root's node and count how many earlier ones live."""
        root = event.subject
        if event.failed or not isinstance(root, torch.Tensor) or root.grad_fn is None:
            return
        mark = graph.mark(root.grad_fn, event.number)
        number = event.number
        _count(self.kept.setdefault(event.site, Kept()), mark, number, event.site)
        used, self._output = self._output, {}
        for site, (numbered, output) in used.items():
            _count(self.outputs.setdefault(site, Kept()), output, numbered, event.site)
        if event.kwargs.get("retain_graph") or (len(event.args) > 2 and event.args[2]):
            seen = self.retained.add(event.site, backward=event.site)
            if is_power_of_two(seen.count):
                size = graph.result_bytes(root.grad_fn)
                seen.facts["bytes"] = max(size, seen.facts.get("bytes", 0))
            self._open_retained.append((event.site, weakref.ref(mark)))

    def before_grad(self, event: Event) -> None:
        """Another engine run, which may use a retained graph."""
        self._judge_retained()

    def _judge_retained(self) -> None:
        """Of the graphs retained for the next engine run, which comes now: those that are gone were not used.

        Asked here and not told by a callback of the reference, in which an interrupt would be lost.
        """
        for site, mark in self._open_retained:
            if mark() is None:
                facts = self.retained.get(site).facts
                facts["unused"] = facts.get("unused", 0) + 1
        self._open_retained.clear()


def _count(kept: Kept, mark: graph.Mark, number: int, site: Site) -> None:
    """One more graph that was used; how many of the earlier ones live, and who holds them?"""
    kept.passes += 1
    alive = kept.alive
    # No Python of ours: an interrupt that came in it would be printed as ignored, and lost to the program.
    alive[weakref.ref(mark, alive.pop)] = number
    count = len(alive)
    if count > kept.most:
        kept.most = count
        kept.steady = 0
        if count >= 4 and is_power_of_two(count):
            frame = _frame_of(site)
            if frame is not None:
                kept.holder = find_holder(frame, min(alive.values())) or kept.holder
    elif count == kept.most:
        kept.steady += 1
        kept.longest_steady = max(kept.longest_steady, kept.steady)


def _terms(root: Any) -> list[Any]:
    """The means and sums that a loss is put together from."""
    found, waiting = [], [root]
    for _ in range(24):
        if not waiting:
            break
        node = waiting.pop()
        if node.name().startswith(("Mean", "Sum")):
            found.append(node)
        elif graph.shape_of(node) == ():
            waiting += [inner for inner, _ in node.next_functions if inner is not None]
    return found


def _square(node: Any) -> tuple[Any, tuple[int, ...] | None, tuple[int, ...]] | None:
    """The mean of a function, by elements, of an [N, 1] less an [N]: the node and both shapes."""
    below = [inner for inner, _ in node.next_functions if inner is not None]
    shape = graph.shape_of(below[0]) if len(below) == 1 else None
    if shape is None or len(shape) != 2 or shape[0] < 2 or shape != (shape[0],) * 2:
        return None
    source = _difference_below(below[0], shape)
    if source is None:
        return None
    operands = [one for one, _ in source.next_functions if one is not None]
    if len(operands) > 1:  # both sides of one network: pairs
        return node, None, shape
    prediction = graph.shape_of(operands[0])
    if prediction is None and graph.is_leaf_node(operands[0]):
        return None
    n = shape[0]
    return (node, prediction, shape) if prediction in ((n, 1), (n,)) else None


def _difference_below(top: Any, shape: tuple[int, ...]) -> Any:
    """The one difference that all of a loss, element by element, is made of; None where there is none."""
    found, seen, waiting = set(), {top}, [top]
    while waiting and len(seen) <= 32:
        node = waiting.pop()
        below = [inner for inner, _ in node.next_functions if inner is not None]
        if node.name().startswith(("Sub", "Rsub")) and any(
            graph.shape_of(inner) != shape for inner in below
        ):
            found.add(node)
            continue
        if not node.name().startswith(ELEMENTWISE):
            return None
        for inner in below:
            if graph.shape_of(inner) != shape:
                return None
            if inner not in seen:
                seen.add(inner)
                waiting.append(inner)
    return found.pop() if len(found) == 1 and not waiting else None


def _weighed(node: Any) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    """The mean of losses [N] times or by weights [N, 1], or of [N, 1] and [N]: losses, joint shape, weights.

    It is the product of both means, so nobody weighs anything with it.
    """
    below = [inner for inner, _ in node.next_functions if inner is not None]
    if len(below) != 1 or not below[0].name().startswith(("Mul", "Div")):
        return None
    joint = graph.shape_of(below[0])
    operands = [one for one, _ in below[0].next_functions if one is not None]
    if joint is None or len(joint) != 2 or joint != (joint[0],) * 2 or joint[0] < 2:
        return None
    if len(operands) != 1 or graph.is_leaf_node(operands[0]):
        return None
    losses, n = graph.shape_of(operands[0]), joint[0]
    for name in (
        "self",
        "other",
    ):  # torch keeps the factor that needs no gradient for the one that does
        weights = graph.saved(below[0], name)
        shape = tuple(weights.shape) if isinstance(weights, torch.Tensor) else ()
        if losses is not None and {losses, shape} == {(n,), (n, 1)}:
            return losses, joint, shape
    return None


def _frame_of(site: Site) -> FrameType | None:
    """The running frame of the program that a site belongs to."""
    frame = user_frame(sys._getframe(1))
    while frame is not None and site.user is not None and frame.f_code is not site.user[0]:
        frame = frame.f_back
    return frame
