"""The optimizers of the program: what each holds, where it was made, how often it stepped.

Everything that happens to an optimizer is counted on its ``Entry``; the gradient account hangs its
ledgers there. Optimizers are held weakly.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from typing import Any

import torch

from loopwright.checker.accounts.tally import Tally
from loopwright.events import Event
from loopwright.observe.sites import Site

KEPT = 256
"""Entries of optimizers that are gone; a program that makes one at each step has only so many."""


class Entry:
    """One optimizer."""

    def __init__(self, optimizer: Any, site: Site | None, number: int, order: int):
        self.ref = weakref.ref(optimizer)
        self.identity = id(optimizer)
        self.kind = type(optimizer).__name__
        self.of_torch = type(optimizer).__module__.startswith("torch.optim")
        self.site = site
        self.made_at = number
        self.order = order
        self.thread: int | None = None
        """The thread that steps it; what other threads do meanwhile is not about it."""
        self.steps = self.watched = 0
        """All steps, and those that were seen in full."""
        self.step_sites: Counter[Site] = Counter()
        self.first_step = self.last_step = 0
        self.closures = 0
        self.zeroed = 0
        self.zero_sites: Counter[Site] = Counter()
        self.ledgers: list[Any] = []
        self.backwards = 0
        """Backward passes that left a gradient in a watched parameter."""
        self.backward_sites: Counter[Site] = Counter()
        self.last_deposit = 0
        """Number of the latest backward pass that left a gradient here."""
        self.cleared_unused: tuple[int, Site, Site] | None = None
        """The latest pass that was cleared before a step: its number, its place, the clearing's place."""
        self.synced = True
        """False from a rest of the observer to the next step."""
        self.suspicion = 0
        """A backward pass was thrown away lately: look closely until it was cleared so often."""
        self.discards = 0
        self.tally = Tally()
        self.attributes = frozenset(vars(optimizer))
        self.defaults = {
            name: value
            for name, value in getattr(optimizer, "defaults", {}).items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        """Its settings for groups that name none, as it was made."""
        self.groups = len(optimizer.param_groups) if hasattr(optimizer, "param_groups") else 0
        self.moved = False
        """A sampled value has changed since the first gradient."""
        self.samples: list[tuple[Any, torch.Tensor]] = []
        self.frozen_steps = self.frozen_count = 0
        """Steps in which everything that it holds was frozen."""
        self.frozen_alone = 0
        """Its latest steps, in a row, with all of it frozen, each after a backward pass that no other had."""
        self.frozen_groups: dict[int, int] = {}
        """Group number -> size, of several groups: those that have been frozen as a whole in every step."""
        self.thrown: set[int] = set()
        self.kept: set[int] = set()
        """Parameters that had a gradient when it was cleared unused, and when it was stepped."""
        self.taken: list[tuple[Site, list[dict[str, Any]], list[dict[str, Any]]]] = []
        """Groups of state dicts that were taken since the last step, and what they held then."""
        self.sizes: list[tuple[Site, int]] = []
        """The backward passes of each step, where they came from one place."""
        self.slow: list[Any] = []
        """What the account of denormals has found in its state."""
        self.slow_due = 0
        """After how many steps that account looks next."""
        self.lr = 0.0
        self.loaded_state = False
        self.had_state = False
        self.options: tuple[Any, ...] = ()
        self.parameter_ids: frozenset[int] = frozenset()
        self.bytes = 0
        """Of its parameters, and so of their gradients."""

    def parameters(self) -> list[torch.Tensor]:
        """What it holds now; empty when it is gone."""
        optimizer = self.ref()
        if optimizer is None:
            return []
        return [one for group in optimizer.param_groups for one in group["params"]]

    def state_of(self, parameter: torch.Tensor) -> bool:
        """True when it has kept a state for a parameter: it has stepped it."""
        optimizer = self.ref()
        return optimizer is not None and bool(optimizer.state.get(parameter))

    @property
    def alive(self) -> bool:
        """True while the program holds it."""
        return self.ref() is not None

    def usual_zero(self) -> Site | None:
        """Where it is cleared most often."""
        return max(self.zero_sites, key=self.zero_sites.__getitem__, default=None)

    def usual_step(self) -> Site | None:
        """Where it is stepped most often."""
        return max(self.step_sites, key=self.step_sites.__getitem__, default=None)


class Optimizers:
    """All of them, in the order in which they were made."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._by_id: dict[int, Entry] = {}
        self.total_steps = 0
        self.passes = self._passes_at_step = 0
        self._frozen: Entry | None = None
        """Stepped last, with all of it frozen, after a pass of its own so far."""

    def after_optimizer(self, event: Event) -> None:
        """A new one."""
        if not event.failed:
            self._add(event.subject, event.site, event.number)

    def _add(self, optimizer: Any, site: Site | None, number: int) -> Entry:
        entry = Entry(optimizer, site, number, len(self.entries))
        self.entries.append(entry)
        self._by_id[id(optimizer)] = entry
        gone = [one for one in self.entries if not one.alive]
        if len(gone) > KEPT:
            for one in gone[len(gone) - KEPT // 2 :]:  # the first ones say what happens
                self.entries.remove(one)
        return entry

    def of(self, optimizer: Any, event: Event) -> Entry:
        """The entry of an optimizer, also of one that was made before the observation began."""
        entry = self._by_id.get(id(optimizer))
        if entry is None or entry.ref() is not optimizer:
            entry = self._add(optimizer, None, event.number)
        return entry

    def main_site(self) -> Site | None:
        """Where the optimizer that stepped most was made."""
        made = [one for one in self.entries if one.site is not None]
        return max(made, key=lambda one: one.steps).site if made else None

    def live(self) -> list[Entry]:
        """Those that the program still holds."""
        return [entry for entry in self.entries if entry.alive]

    def here(self) -> list[Entry]:
        """Those that are stepped by this thread, or by none yet."""
        thread = threading.get_ident()
        return [one for one in self.entries if one.thread in (None, thread) and one.alive]

    def beside(self, entry: Entry) -> list[Entry]:
        """Those that are stepped in the same part of the program as one, itself among them."""
        return [
            one
            for one in self.entries
            if one.watched
            and one.first_step <= entry.last_step
            and entry.first_step <= one.last_step
        ]

    def owners(self) -> dict[int, list[Entry]]:
        """Parameter id -> the live optimizers that hold it."""
        found: dict[int, list[Entry]] = {}
        for entry in self.live():
            for one in entry.parameters():
                found.setdefault(id(one), []).append(entry)
        return found

    def before_step(self, event: Event) -> None:
        """Count it."""
        entry = self.of(event.subject, event)
        entry.steps += 1
        entry.watched += 1
        entry.thread = threading.get_ident()
        entry.step_sites[event.site] += 1
        entry.first_step = entry.first_step or event.number
        entry.last_step = event.number
        if event.kwargs.get("closure") is not None or any(map(callable, event.args[1:])):
            entry.closures += 1
        if entry.taken:
            self._compare_taken(entry, event.subject)
        groups = event.subject.param_groups
        first = next((one for group in groups for one in group["params"]), None)
        frozen = first is not None and not first.requires_grad
        if frozen:
            parameters = entry.parameters()
            frozen = not any(one.requires_grad for one in parameters)
            entry.frozen_steps += frozen
            entry.frozen_count = len(parameters) if frozen else entry.frozen_count
        self._alone(entry, frozen=frozen)
        if entry.steps == 1 and 2 <= len(groups) <= 16:
            entry.frozen_groups = {n: len(group["params"]) for n, group in enumerate(groups)}
        for number in list(entry.frozen_groups):
            inside = groups[number]["params"] if number < len(groups) else []
            some = inside if len(inside) <= 64 else (inside[0], inside[-1])
            if not inside or any(one.requires_grad for one in some):
                del entry.frozen_groups[number]
        rate = groups[0].get("lr")
        entry.lr = float(rate) if isinstance(rate, (int, float)) else entry.lr
        if entry.steps == 1:
            group = event.subject.param_groups[0]
            entry.options = tuple(
                (name, value)
                for name, value in sorted(group.items())
                if isinstance(value, (int, float, bool, tuple)) and name != "initial_lr"
            )
            entry.parameter_ids = frozenset(map(id, entry.parameters()))
            entry.bytes = sum(p.numel() * p.element_size() for p in entry.parameters())

    def after_backward(self, event: Event) -> None:
        """One more backward pass."""
        self.passes += not event.failed

    def _alone(self, entry: Entry, *, frozen: bool) -> None:
        """Does this step belong to a pass of its own? One that steps all it has may freeze some by turns."""
        own = self.passes > self._passes_at_step
        if not own and self._frozen is not None:
            self._frozen.frozen_alone = 0
        entry.frozen_alone = entry.frozen_alone + 1 if frozen and own else 0
        self._frozen = entry if frozen and own else None
        self._passes_at_step = self.passes

    def step_unseen(self, optimizer: Any) -> None:
        """Count a step while the observer rests."""
        self.total_steps += 1
        entry = self._by_id.get(id(optimizer))
        if entry is not None:
            entry.steps += 1

    def after_step(self, event: Event) -> None:
        """Note whether it keeps a state that would be lost with it."""
        self.total_steps += 1
        entry = self.of(event.subject, event)
        if not entry.had_state:
            entry.had_state = any(
                isinstance(value, torch.Tensor) and value.numel() > 1
                for state in list(event.subject.state.values())[:2]
                if isinstance(state, dict)
                for value in state.values()
            )

    def after_optimizer_state(self, event: Event) -> None:
        """A state dict was taken; what is written into it is compared at the next step."""
        groups = event.result.get("param_groups") if isinstance(event.result, dict) else None
        if isinstance(groups, list):
            entry = self.of(event.subject, event)
            entry.taken = [*entry.taken[-3:], (event.site, groups, [dict(one) for one in groups])]

    def _compare_taken(self, entry: Entry, optimizer: Any) -> None:
        """Was something written into a copy of the groups that the groups do not have?"""
        for site, groups, before in entry.taken:
            for copied, old, real in zip(groups, before, optimizer.param_groups, strict=False):
                for name, value in copied.items():
                    changed = isinstance(value, float) and old.get(name) != value
                    if changed and real.get(name, value) != value:
                        seen = entry.tally.add("written into a copy", written=site)
                        seen.facts |= {"name": name, "value": value, "used": real[name]}
        entry.taken = []

    def after_load_optimizer(self, event: Event) -> None:
        """Its state was restored."""
        entry = self.of(event.subject, event)
        entry.loaded_state = True
        entry.taken = []
