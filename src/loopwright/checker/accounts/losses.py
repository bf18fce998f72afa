"""The graph account, first half: what feeds a loss, in what shape, through which last operation.

Shapes are compared at every call; values and graphs are looked at in the calls number 1, 2, 4, 8, ... of
each place, as long as training needs a gradient from them.
"""

from __future__ import annotations

import math
import sys
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from loopwright.checker.accounts import pieces
from loopwright.checker.accounts.data import Data
from loopwright.checker.accounts.parameters import Parameters
from loopwright.checker.accounts.tally import Seen
from loopwright.checker.accounts.targets import Targets
from loopwright.checker.accounts.tokens import TOKEN_LOOKS, look_at_tokens
from loopwright.events import Event
from loopwright.observe import content, graph
from loopwright.observe.content import is_power_of_two
from loopwright.observe.sites import Site

INDEX_LOOKS = 256
"""Passes of a place at which the program's variables are searched for a part of an index."""
ELEMENTWISE = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"})
OF_TOKENS = ("target is input", "next token", "future", "future taps", "padding counted")
VALUES_LIMIT = 1 << 22
"""Elements of a loss given that are looked at in one close look."""


class LossPlace:
    """One place that computes one kind of loss."""

    def __init__(self, name: str, site: Site):
        self.name, self.site = name, site
        self.calls = 0
        self.looks = 0
        self.made: Site | None = None
        """Where the criterion was made that computes it; None for a function."""
        self.trained = False
        """A gradient was asked for."""
        self.seen: dict[str, Seen] = {}
        self.alone: set[int] = set()
        """Parameters behind it that no backward pass had reached when it was looked at."""
        self.alone_looks = 0
        self.used = False
        """A backward pass ran through one of those results."""

    @property
    def at(self) -> Site:
        """Where a person would look: the program's call, or else where it made the criterion."""
        return self.site if self.site.user is not None else self.made or self.site

    def note(self, what: str, **facts: Any) -> None:
        """One more call that showed ``what``."""
        found = self.seen.setdefault(what, Seen())
        found.count += 1
        found.facts |= facts

    def total(self, what: str) -> int:
        """In how many calls it would have been seen."""
        if what in ("broadcast", "one class"):
            return self.calls
        return min(self.looks, TOKEN_LOOKS) if what in OF_TOKENS else self.looks

    def count(self, what: str) -> int:
        """In how many calls it was seen."""
        return self.seen[what].count if what in self.seen else 0


@dataclass(slots=True)
class Passes:
    """Backward passes of one place: how many came from a mean loss as it is, and after a batch of its own."""

    passes: int = 0
    means: int = 0
    fetches: int = 0
    last_fetch: int = -1
    last_piece: pieces.Piece | None = None
    """The piece of a tensor that the pass before was about."""
    last_step: int = -1


class Losses:
    """The account; see the module."""

    def __init__(self, data: Data, parameters: Parameters) -> None:
        self.data = data
        self.parameters = parameters
        self.targets = Targets()
        self._within: nn.Module | None = None
        self._piece: pieces.Piece | None = None
        self._results: list[tuple[LossPlace, str, weakref.ref[Any]]] = []
        """Results with parameters that nothing else reaches: the place, a name in their node, a mark."""
        self._rows = 0
        """Of what the model was given, where that is one tensor."""
        self.unscaled: dict[Site, Passes] = {}
        self.follow = False
        """Note the range of all loss values: a scheduler is given a metric."""
        self._range = (math.inf, -math.inf)
        self._last_result: tuple[weakref.ref[Any], bool] | None = None
        self.places: dict[tuple[Site, str], LossPlace] = {}
        self.last: tuple[LossPlace, int] | None = None

    def before_forward(self, event: Event) -> None:
        """Which module computes a loss, if one does."""
        self._within = event.subject
        if next(event.subject.parameters(), None) is not None:
            given = pieces.given_to(event)
            single = given[0] if len(given) == 1 and given[0].dim() else None
            self._piece = pieces.piece_of(single) if single is not None else None
            self._rows = len(single) if single is not None else 0

    def after_forward(self, event: Event) -> None:
        """Back in the program."""
        self._within = None

    def before_backward(self, event: Event) -> None:
        """Is the root a mean over one batch, not divided by anything?"""
        found = self.unscaled.setdefault(event.site, Passes())
        found.passes += 1
        self._are_results_used(event.subject)
        if self._piece is None and self._rows > 1 and found.passes <= INDEX_LOOKS:
            self._piece = pieces.index_of(sys._getframe(1), self._rows)
        if self._last_result is not None:
            ref, mean = self._last_result
            found.means += mean and ref() is event.subject
        found.fetches += self.data.fetches > found.last_fetch or self._next_piece(found)
        found.last_fetch = self.data.fetches
        found.last_piece, found.last_step = self._piece, self._steps()

    def _steps(self) -> int:
        return self.parameters.optimizers.total_steps

    def _next_piece(self, found: Passes) -> bool:
        """Is this pass about another piece than the one before, and of the same tensor within a window?"""
        piece, last = self._piece, found.last_piece
        if piece is None or piece == last:
            return False
        return last is None or found.last_step < self._steps() or last[0] == piece[0]

    def after_loss(self, event: Event) -> None:
        """Shapes always, values sometimes."""
        if event.failed:
            return
        given, target = _argument(event, 0, "input"), _argument(event, 1, "target")
        if not isinstance(given, torch.Tensor):
            return
        key = (event.site, event.subject)
        place = self.places.get(key)
        if place is None:
            if len(self.places) > 512:
                return
            place = self.places[key] = LossPlace(event.subject, event.site)
            birth = self.parameters.birth_of(self._within) if self._within is not None else None
            place.made = birth.site if birth is not None else None
        place.calls += 1
        result = event.result
        if self.follow and isinstance(result, torch.Tensor) and result.numel() == 1:
            value = float(result.detach())
            self._range = (min(value, self._range[0]), max(value, self._range[1]))
        self.last = (place, event.number)
        if not (given.requires_grad and torch.is_grad_enabled()):
            return
        place.trained = True
        if isinstance(event.result, torch.Tensor):
            mean = event.kwargs.get("reduction", "mean") == "mean"
            self._last_result = (weakref.ref(event.result), mean)
        if isinstance(target, torch.Tensor):
            _compare_shapes(place, given, target)
        if is_power_of_two(place.calls) or place.calls == 3:
            place.looks += 1
            with content.quiet():
                self._look(place, event, given, target)

    def take_range(self) -> tuple[float, float]:
        """The lowest and highest loss value since the last call."""
        found, self._range = self._range, (math.inf, -math.inf)
        return found

    def _look(self, place: LossPlace, event: Event, given: torch.Tensor, target: Any) -> None:
        if not content.readable(given) or given.numel() == 0 or given.numel() > VALUES_LIMIT:
            return
        maker = graph.producer(given.grad_fn)
        made_by = maker.name() if maker is not None else ""
        look = _LOOKS.get(place.name)
        if look is not None:
            look(place, event, given, target, made_by)
        self._what_only_it_reaches(place, event.result, event.number)
        if isinstance(target, torch.Tensor) and target.requires_grad:
            self.targets.look(place, event, given, target)
        if place.name == "cross_entropy" and isinstance(target, torch.Tensor):
            look_at_tokens(place, event, given, target, self.parameters)

    def _are_results_used(self, root: Any) -> None:
        """Does a backward pass run through what was looked at?"""
        self._results = [one for one in self._results if one[2]() is not None]
        if not self._results or not isinstance(root, torch.Tensor) or root.grad_fn is None:
            return
        for node in graph.nodes(root.grad_fn, 20_000):
            for place, name, _ in self._results:
                place.used = place.used or name in node.metadata

    def _what_only_it_reaches(self, place: LossPlace, result: Any, number: int) -> None:
        """Parameters that have waited for a backward pass so far."""
        waiting = {fact.key for held in self.parameters.held.values() for fact in held.unreached}
        if waiting and isinstance(result, torch.Tensor) and result.grad_fn is not None:
            found = waiting & {id(one) for one in graph.leaves(result.grad_fn, 4000)}
            place.alone |= found
            place.alone_looks += bool(found)
            if found and not place.used and len(self._results) < 64:
                mark = graph.mark(result.grad_fn, number)
                self._results.append((place, f"loopwright {number}", weakref.ref(mark)))


def _argument(event: Event, index: int, name: str) -> Any:
    return event.args[index] if len(event.args) > index else event.kwargs.get(name)


def _compare_shapes(place: LossPlace, given: torch.Tensor, target: torch.Tensor) -> None:
    if place.name in ELEMENTWISE and given.shape != target.shape and given.dim() != target.dim():
        try:
            joint = torch.broadcast_shapes(given.shape, target.shape)
        except RuntimeError:
            return
        same_numbers = [n for n in given.shape if n != 1] == [n for n in target.shape if n != 1]
        count = 1
        for n in joint:
            count *= n
        if same_numbers and count > max(given.numel(), target.numel()):
            place.note(
                "broadcast",
                input=tuple(given.shape),
                target=tuple(target.shape),
                joint=tuple(joint),
            )
    if place.name == "cross_entropy":
        classes = given.shape[1] if given.dim() > 1 else given.shape[0]
        if classes == 1:
            place.note("one class", input=tuple(given.shape))


def _rows(given: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Values in float32, and the class dimension."""
    return given.detach().float(), 1 if given.dim() > 1 else 0


def _sums_to_one(values: torch.Tensor, dim: int, tolerance: float) -> bool:
    return bool((values >= 0).all()) and bool(((values.sum(dim) - 1).abs() < tolerance).all())


def _tolerance(given: torch.Tensor) -> float:
    return 1e-3 if given.dtype in (torch.float32, torch.float64) else 2e-2


def _look_at_cross_entropy(
    place: LossPlace, event: Event, given: torch.Tensor, target: Any, made_by: str
) -> None:
    values, dim = _rows(given)
    if values.shape[dim] < 2:
        return
    tolerance = _tolerance(given)
    if _sums_to_one(values, dim, tolerance):
        place.note(
            "probabilities", made_by=made_by, low=float(values.min()), high=float(values.max())
        )
    elif values.dim() == 2 and values.shape[0] > 1 and _sums_to_one(values, 0, tolerance):
        place.note("columns", made_by=made_by, shape=tuple(values.shape))


def _look_at_nll(
    place: LossPlace, event: Event, given: torch.Tensor, target: Any, made_by: str
) -> None:
    values, dim = _rows(given)
    if values.shape[dim] < 2:
        return
    tolerance = _tolerance(given)
    if _sums_to_one(values, dim, tolerance):
        place.note(
            "probabilities", made_by=made_by, low=float(values.min()), high=float(values.max())
        )
        return
    off = values.logsumexp(dim).abs()
    if float(off.median()) > 10 * tolerance:
        if (
            values.dim() == 2
            and values.shape[0] > 1
            and bool((values.logsumexp(0).abs() < 10 * tolerance).all())
        ):
            place.note("columns", made_by=made_by, shape=tuple(values.shape))
        elif bool((values > 0).any()):
            place.note("logits", made_by=made_by, high=float(values.max()), off=float(off.median()))


def _look_at_bce_with_logits(
    place: LossPlace, event: Event, given: torch.Tensor, target: Any, made_by: str
) -> None:
    values = given.detach().float()
    inside = bool(((values >= 0) & (values <= 1)).all())
    if inside and made_by.startswith(("Sigmoid", "Softmax")):
        place.note("sigmoid", made_by=made_by, low=float(values.min()), high=float(values.max()))
    elif inside and values.numel() >= 8 and made_by.startswith("CompiledFunction"):
        place.note("inside", made_by=made_by, low=float(values.min()), high=float(values.max()))


def _look_at_kl_div(
    place: LossPlace, event: Event, given: torch.Tensor, target: Any, made_by: str
) -> None:
    values = given.detach().float()
    if values.dim() == 0:
        return
    tolerance = _tolerance(given)
    dims = [d for d in range(values.dim()) if values.shape[d] > 1]
    if bool((values >= 0).all()) and any(_sums_to_one(values, d, tolerance) for d in dims):
        place.note(
            "probabilities", made_by=made_by, low=float(values.min()), high=float(values.max())
        )
    elif isinstance(target, torch.Tensor) and not event.kwargs.get("log_target"):
        wanted = target.detach().float()
        log_target = event.args[5] if len(event.args) > 5 else False
        dims = [d for d in range(wanted.dim()) if wanted.shape[d] > 1]
        if (
            not log_target
            and bool((wanted <= 0).all())
            and any(bool((wanted.logsumexp(d).abs() < 10 * tolerance).all()) for d in dims)
        ):
            place.note("log target", low=float(wanted.min()), high=float(wanted.max()))


_LOOKS = {
    "cross_entropy": _look_at_cross_entropy,
    "nll_loss": _look_at_nll,
    "binary_cross_entropy_with_logits": _look_at_bce_with_logits,
    "kl_div": _look_at_kl_div,
}
