"""The gradient account: which backward pass put something into which gradient, who cleared it, who used it.

A few parameters of each optimizer are watched, one ``Ledger`` each. A backward pass that changes a
watched gradient is a ``Deposit``; a step consumes the deposits that it finds, clearing ends them. What
looks wrong on the watched ones is verified on all of the optimizer's parameters, contents included, before
it is counted. Cost: 0.5 µs a watched parameter and backward pass, at most 4 an optimizer.
"""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import torch

from loopwright.checker.accounts import ledgers
from loopwright.checker.accounts.ledgers import Deposit, Ledger, Tag, tag_of
from loopwright.checker.accounts.optimizers import Entry, Optimizers
from loopwright.checker.accounts.tally import Tally
from loopwright.events import Event
from loopwright.observe import content
from loopwright.observe.content import is_power_of_two
from loopwright.observe.sites import Site

WATCHED = 4
LOOKS_AT_DISCARDS = 12
CLOSE_LOOKS = 8
"""What is suspicious is verified in full this often, then ever more rarely."""


class Gradients:
    """The account; see the module."""

    def __init__(self, optimizers: Optimizers):
        self.optimizers = optimizers
        self.backwards = 0
        self.grads = 0
        self.backward_sites: Counter[Site] = Counter()
        self.last_backward: tuple[Site, int] | None = None
        self.forwards_since_backward = 0
        self.last_forward = 0
        self.consumed: Counter[Site] = Counter()
        """Backward passes of a place that some step used."""
        self.discarded = Tally()
        """(backward site, clearing site) -> passes that no step used before they were cleared."""
        self.foreign = Tally()
        self.twice = Tally()
        self._tags: dict[int, list[tuple[Ledger, Tag]]] = {}
        self._before: dict[int, tuple[Entry, list[Any]]] = {}
        self._scaled: list[weakref.ref[Any]] = []
        self._in_scaler: int | None = None
        self._roots: list[tuple[weakref.ref[Any], int]] = []
        self.scaler_enabled = False

    def woken(self) -> None:
        """Steps went by unseen: begin again with what is there; the first step only brings order."""
        for entry in self.optimizers.live():
            entry.synced = False
            for ledger in entry.ledgers:
                ledger.deposits.clear()
                parameter = ledger.ref()
                ledger.tag = tag_of(parameter.grad) if parameter is not None else None
        self._tags.clear()
        self.forwards_since_backward = 0

    # What flows in

    def before_forward(self, event: Event) -> None:
        """A forward that builds a graph, between a backward pass and a step, is telling."""
        if torch.is_grad_enabled():
            self.forwards_since_backward += 1
            self.last_forward = event.number

    def before_backward(self, event: Event) -> None:
        """Note every watched gradient; a clearing by hand shows here."""
        self.backwards += 1
        self.backward_sites[event.site] += 1
        tags: list[tuple[Ledger, Tag]] = []
        for entry in self.optimizers.here():
            dirty = 0
            for ledger in entry.ledgers:
                parameter = ledger.ref()
                if parameter is None:
                    continue
                tag = tag_of(parameter.grad)
                if tag is None and ledger.deposits:
                    self._clear(entry, [ledger], event, by_hand=True)
                elif tag is not None and tag == ledger.tag and ledger.deposits:
                    dirty += all(entry.order in one.consumers for one in ledger.deposits)
                ledger.tag = tag
                tags.append((ledger, tag))
            if dirty and dirty == len(entry.ledgers):
                self._look_at_uncleared(entry, event)
        self._tags[event.number] = tags

    def _look_at_uncleared(self, entry: Entry, event: Event) -> None:
        """Gradients that a step has used are still there: zeros written past the counters are no harm."""
        seen = entry.tally.add("uncleared", backward=event.site)
        if not (seen.count <= CLOSE_LOOKS or is_power_of_two(seen.count)):
            if seen.facts.get("by data"):
                self._clear(entry, entry.ledgers, event, by_hand=True)
            return
        held = [(p, p.grad) for p in entry.parameters()]
        full = [(p, grad) for p, grad in held if grad is not None and not content.all_zero(grad)]
        nonzero = [p for p, _ in full]
        seen.facts["by data"] = not nonzero
        if not nonzero:
            self._clear(entry, entry.ledgers, event, by_hand=True)
            return
        seen.facts |= {"held": len(nonzero), "of": len(entry.parameters())}
        if seen.count in (2, 4) and all(grad.layout == torch.strided for _, grad in full):
            copied = content.copies([grad for _, grad in full])
            if copied is not None:
                self._before[event.number] = (entry, [nonzero, copied])

    def after_backward(self, event: Event) -> None:
        """Make the deposit wherever a watched gradient changed."""
        tags = self._tags.pop(event.number, [])
        measure = self._before.pop(event.number, None)
        if event.failed:
            return
        deposit = Deposit(event.site, event.number, scaled=self._is_scaled(event.subject))
        self.last_backward = (event.site, event.number)
        self.forwards_since_backward = 0
        before = {id(ledger): tag for ledger, tag in tags}
        for entry in self.optimizers.here():
            touched = False
            for ledger in entry.ledgers:
                parameter = ledger.ref()
                if parameter is None:
                    continue
                grad = parameter.grad
                tag = tag_of(grad)
                if tag is not None and tag != before.get(id(ledger)):
                    ledger.deposits.append(deposit)
                    ledger.zeroed = False
                    ledger.version = parameter._version
                    ledger.values = content.sample(parameter, 8) if entry.suspicion else None
                    touched = True
                    if len(ledger.deposits) > 64:
                        del ledger.deposits[1:32]
                ledger.tag = tag
            if touched:
                entry.backwards += 1
                entry.backward_sites[event.site] += 1
                entry.last_deposit = event.number
                if is_power_of_two(entry.backwards) and not entry.moved:
                    entry.moved = any(
                        (now := ref()) is not None and not content.same(old, content.sample(now))
                        for ref, old in entry.samples
                    )
                self._same_root_twice(entry, event)
            else:
                self._watch_others(entry, deposit, event)
        if measure is not None:
            entry, (parameters, copied) = measure
            entry.tally.add("measured").facts.update(ledgers.norms(parameters, copied))

    def _watch_others(self, entry: Entry, deposit: Deposit, event: Event) -> None:
        """No watched gradient changed: sometimes look whether others have one."""
        seen = entry.tally.add("untouched")
        if not is_power_of_two(seen.count):
            return
        known = {id(ledger.ref()) for ledger in entry.ledgers}
        new = [p for p in entry.parameters() if p.grad is not None and id(p) not in known]
        if not new:
            return
        chosen = new if len(new) <= WATCHED else [new[i * (len(new) - 1) // 3] for i in range(4)]
        first = not entry.ledgers
        if first:
            entry.parameter_ids = entry.parameter_ids or frozenset(map(id, entry.parameters()))
            looked = [p for p in chosen if content.readable(p)]
            entry.samples = [(weakref.ref(p), content.sample(p)) for p in looked]
        if len(entry.ledgers) >= 2 * WATCHED:
            del entry.ledgers[:WATCHED]
        for parameter in chosen:
            ledger = Ledger(parameter)
            if first:
                ledger.deposits.append(deposit)
                ledger.version = parameter._version
            entry.ledgers.append(ledger)
        if first:
            entry.backwards += 1
            entry.backward_sites[event.site] += 1

    def _same_root_twice(self, entry: Entry, event: Event) -> None:
        root = event.subject
        if not isinstance(root, torch.Tensor) or root.numel() != 1 or event.kwargs.get("inputs"):
            return
        for ref, number in self._roots:
            earlier = ref()
            if (
                earlier is not None
                and (earlier is root or ledgers.part_of(earlier, root))
                and entry.last_step < number < event.number
                and number > entry.tally.get("cleared").facts.get("at", 0)
            ):
                self.twice.add(event.site, backward=event.site)
                break
        self._roots = [*self._roots[-3:], (weakref.ref(root), event.number)]

    def before_grad(self, event: Event) -> None:
        """``autograd.grad`` leaves nothing in ``.grad``, but it is an engine run."""
        self.grads += 1

    # What flows out

    def before_zero_grad(self, event: Event) -> None:
        """After some passes were cleared unused: whose gradients are those that are cleared now?"""
        for entry in self.optimizers.here():
            if not 0 < entry.discards <= LOOKS_AT_DISCARDS:
                continue
            waiting = [one for ledger in entry.ledgers for one in ledger.deposits]
            if any(not one.consumers for one in waiting):
                entry.thrown |= ledgers.with_gradient(entry.parameters())

    def after_zero_grad(self, event: Event) -> None:
        """An optimizer or a module cleared gradients."""
        if event.failed:
            return
        subject = event.subject
        if isinstance(subject, torch.optim.Optimizer):
            entry = self.optimizers.of(subject, event)
            entry.zeroed += 1
            entry.zero_sites[event.site] += 1
            entry.tally.add("cleared").facts |= {"at": event.number, "site": event.site}
            self._clear(entry, entry.ledgers, event)
            return
        for entry in self.optimizers.here():
            changed = [
                ledger
                for ledger in entry.ledgers
                if (parameter := ledger.ref()) is not None
                and ledger.deposits
                and tag_of(parameter.grad) != ledger.tag
            ]
            if changed:
                entry.zeroed += 1
                entry.zero_sites[event.site] += 1
                entry.tally.add("cleared").facts |= {"at": event.number, "site": event.site}
                self._clear(entry, changed, event)

    def _clear(
        self, entry: Entry, ledgers: list[Ledger], event: Event, *, by_hand: bool = False
    ) -> None:
        site = event.site
        unused: dict[int, tuple[Deposit, str]] = {}
        others: dict[int, Deposit] = {}
        for ledger in ledgers:
            parameter = ledger.ref()
            for one in ledger.deposits:
                if not one.consumers:
                    state = (
                        "moved"
                        if ledger.moved()
                        else ("unused" if ledger.values is not None else "unverified")
                    )
                    known = unused.get(one.number, (one, state))[1]
                    unused[one.number] = (one, "moved" if "moved" in (known, state) else state)
                elif entry.order not in one.consumers:
                    others[one.number] = one
            ledger.deposits.clear()
            ledger.zeroed = parameter is not None and parameter.grad is not None
            ledger.tag = tag_of(parameter.grad) if parameter is not None else None
        entry.suspicion = 4 * (entry.discards < 32) if unused else max(0, entry.suspicion - 1)
        entry.discards += bool(unused)
        for one, state in unused.values():
            kind = "left over" if one.left_over else state
            if by_hand:
                kind = f"by hand, {kind}"
            seen = self.discarded.add(
                (one.site, site, kind, entry.order), backward=one.site, zero=site
            )
            seen.facts["entry"] = entry
        for one in others.values():
            seen = self.foreign.add((one.site, entry.order), backward=one.site, zero=site)
            seen.facts |= {"entry": entry, "consumers": one.consumers}
        if unused:
            last = max(unused)
            entry.cleared_unused = (last, unused[last][0].site, site)

    def before_step(self, event: Event) -> None:
        """Consume what is there; count what should not be so."""
        entry = self.optimizers.of(event.subject, event)
        if event.kwargs.get("closure") is not None or any(map(callable, event.args[1:])):
            return
        fresh: dict[int, Deposit] = {}
        stale: dict[int, Deposit] = {}
        holds = altered = False
        for ledger in entry.ledgers:
            parameter = ledger.ref()
            if parameter is None:
                continue
            tag = tag_of(parameter.grad)
            altered = altered or (tag != ledger.tag and self._in_scaler != entry.identity)
            holds = holds or (tag is not None and not ledger.zeroed)
            for one in ledger.deposits:
                (stale if entry.order in one.consumers else fresh)[one.number] = one
        if not entry.synced:
            entry.synced = True
        elif altered:
            entry.tally.add("altered by hand")
        elif not holds:
            self._empty_step(entry, event)
        else:
            self._full_step(entry, event, fresh, stale)
        for one in fresh.values():
            if not one.consumers:
                self.consumed[one.site] += 1
            one.consumers = (*one.consumers, entry.order)

    def _empty_step(self, entry: Entry, event: Event) -> None:
        """No watched gradient: verify on all, then say why."""
        seen = entry.tally.add("looks empty")
        if not (seen.count <= CLOSE_LOOKS or is_power_of_two(seen.count)):
            if seen.facts.get("empty"):
                self._count_empty(entry, event)
            return
        parameters = entry.parameters()
        held = [p for p in parameters if p.grad is not None and not content.all_zero(p.grad)]
        seen.facts["empty"] = not held
        if not held:
            self._count_empty(entry, event)

    def _count_empty(self, entry: Entry, event: Event) -> None:
        cause, backward, zero = "no gradient", None, None
        if self.backwards == 0:
            cause = "no backward"
        elif entry.cleared_unused is not None and entry.cleared_unused[0] == entry.last_deposit:
            cause = "stepped before" if self.forwards_since_backward else "cleared"
            _, backward, zero = entry.cleared_unused
            entry.cleared_unused = None
        elif self.last_backward is None and self.forwards_since_backward:
            cause = "stepped before"
        seen = entry.tally.add(f"empty: {cause}", step=event.site, zero=zero, backward=backward)
        seen.facts["of"] = len(entry.parameters())

    def _full_step(
        self, entry: Entry, event: Event, fresh: dict[int, Deposit], stale: dict[int, Deposit]
    ) -> None:
        entry.tally.add("full")
        if 0 < entry.discards <= LOOKS_AT_DISCARDS:
            entry.kept |= ledgers.with_gradient(entry.parameters())
        if stale and fresh:
            seen = entry.tally.add("stale", step=event.site, backward=max(fresh.items())[1].site)
            before = entry.tally.get("uncleared").facts
            seen.facts |= {"held": before.get("held"), "of": before.get("of")}
            seen.facts["batches"] = max(seen.facts.get("batches", 0), len(stale))
        elif stale and not fresh:
            entry.tally.add("repeated", step=event.site)
        if not stale and fresh and self.forwards_since_backward:
            entry.tally.add("delayed", step=event.site, backward=max(fresh.items())[1].site)
        if not fresh:
            return
        sites = Counter(one.site for one in fresh.values())
        if len(sites) == 1 and len(entry.sizes) < 4096:
            entry.sizes += sites.items()
        window = entry.tally.add(("window", tuple(sites.items())), step=event.site)
        window.facts |= {"number": event.number}
        if any(one.left_over for one in fresh.values()):
            leaked = entry.tally.add(("leaked", sum(sites.values())), step=event.site)
            leaked.facts["left over"] = sum(one.left_over for one in fresh.values())
            leaked.sites["backward"] = max(fresh.items())[1].site
        scaled = [one for one in fresh.values() if one.scaled]
        if (
            scaled
            and self._in_scaler != entry.identity
            and not entry.tally.get("unscaled").facts.get("now")
        ):
            entry.tally.add("scaler bypassed", step=event.site, backward=scaled[-1].site)
        self._leak(entry, event, list(fresh.values()))

    def _leak(self, entry: Entry, event: Event, fresh: list[Deposit]) -> None:
        """A pass that another optimizer has used already, before a later pass of this one's own."""
        theirs = [one for one in fresh if one.consumers]
        own = [one for one in fresh if not one.consumers]
        if theirs and own and min(theirs, key=lambda one: one.number).number < own[-1].number:
            seen = entry.tally.add(
                "leak", step=event.site, other=theirs[0].site, backward=own[-1].site
            )
            seen.facts["consumers"] = theirs[0].consumers

    def after_step(self, event: Event) -> None:
        """A step may write to gradients; what it left is what the next look compares with."""
        entry = self.optimizers.of(event.subject, event)
        closure = event.kwargs.get("closure") is not None or any(map(callable, event.args[1:]))
        for ledger in entry.ledgers:
            parameter = ledger.ref()
            ledger.tag = tag_of(parameter.grad) if parameter is not None else None
            if closure:
                for one in ledger.deposits:
                    if entry.order not in one.consumers:
                        if not one.consumers:
                            self.consumed[one.site] += 1
                        one.consumers = (*one.consumers, entry.order)
        entry.tally.add("unscaled").facts["now"] = False

    # What changes it on the way

    def after_clip(self, event: Event) -> None:
        """Clipping writes to the gradients: known, not by hand."""
        self._retag()

    def after_scale(self, event: Event) -> None:
        """A scaled loss: its backward pass leaves scaled gradients."""
        self.scaler_enabled = bool(event.args and event.args[0].is_enabled())
        if self.scaler_enabled and isinstance(event.result, torch.Tensor):
            self._scaled = [*self._scaled[-3:], weakref.ref(event.result)]

    def _is_scaled(self, root: Any) -> bool:
        return any(ref() is root for ref in self._scaled)

    def after_unscale(self, event: Event) -> None:
        """The scaler divided the gradients of one optimizer."""
        optimizer = event.args[1] if len(event.args) > 1 else event.kwargs.get("optimizer")
        if isinstance(optimizer, torch.optim.Optimizer):
            self.optimizers.of(optimizer, event).tally.add("unscaled").facts["now"] = True
        self._retag()

    def before_scaler_step(self, event: Event) -> None:
        """The step inside is the scaler's."""
        optimizer = event.args[1] if len(event.args) > 1 else event.kwargs.get("optimizer")
        self._in_scaler = id(optimizer)
        # Unscaling happens inside, by torch itself: not a change by hand.
        if isinstance(optimizer, torch.optim.Optimizer):
            for ledger in self.optimizers.of(optimizer, event).ledgers:
                ledger.tag = None

    def after_scaler_step(self, event: Event) -> None:
        """Back outside; a skipped update counts as used, for the scaler decided so."""
        optimizer = event.args[1] if len(event.args) > 1 else event.kwargs.get("optimizer")
        self._in_scaler = None
        if isinstance(optimizer, torch.optim.Optimizer):
            entry = self.optimizers.of(optimizer, event)
            for ledger in entry.ledgers:
                for one in ledger.deposits:
                    if entry.order not in one.consumers:
                        one.consumers = (*one.consumers, entry.order)
        self._retag()

    def after_collective(self, event: Event) -> None:
        """Gradients reduced by hand."""
        self._retag()

    def _retag(self) -> None:
        for entry in self.optimizers.here():
            for ledger in entry.ledgers:
                parameter = ledger.ref()
                if parameter is not None:
                    ledger.tag = tag_of(parameter.grad)

    def epoch_ended(self) -> int:
        """The loader is exhausted: what waits for a step now is left over. Returns how much."""
        waiting = set()
        for entry in self.optimizers.here():
            for ledger in entry.ledgers:
                for one in ledger.deposits:
                    if not one.consumers:
                        one.left_over = True
                        waiting.add(one.number)
        return len(waiting)
