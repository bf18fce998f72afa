"""The parameter account: what took part in a graph, what an optimizer holds, what is registered where.

At the backward passes number 1, 2, 4, 8, ... of each place the graph is walked to its leaves. Modules
are known from their birth (``Module.__init__``), with the line that made them; a parameter is *fresh* when
its module was made here and nothing was loaded into it: weights that are random and never trained are a
mistake, weights that came from elsewhere may be left alone on purpose.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from typing import Any

import torch
from torch import nn

from loopwright.checker.accounts.coverage import Fact, Held, Survey, survey
from loopwright.checker.accounts.fed import Fed
from loopwright.checker.accounts.optimizers import Optimizers
from loopwright.checker.accounts.tally import Tally
from loopwright.events import Event
from loopwright.observe import content, graph
from loopwright.observe.content import is_power_of_two
from loopwright.observe.sites import TORCH, USER, Position, Site, kind_of, makers
from loopwright.observe.storing import cut_between

WALK_LIMIT = 20_000


class Birth:
    """Where and when a module was made."""

    __slots__ = ("around", "copied", "number", "ref", "site")

    def __init__(
        self,
        module: nn.Module,
        site: Site,
        number: int,
        *,
        copied: bool,
        around: Site | None = None,
    ):
        self.ref = weakref.ref(module)
        self.site, self.number, self.copied = site, number, copied
        self.around = around
        """The line in the ``__init__`` of the module around it."""


class Root:
    """A module that the program calls itself."""

    def __init__(self, module: nn.Module):
        self.ref = weakref.ref(module)
        self.kind = type(module).__name__
        self.forwards = 0
        self.sites: Counter[Site] = Counter()
        self.called: dict[int, int] = {}
        """Inner module id -> in how many recorded forwards it was called."""
        self.recorded = 0
        self.children_calls: dict[int, int] = {}


class Orphan:
    """A leaf that gets gradients and is in no optimizer."""

    def __init__(self, leaf: torch.Tensor, number: int):
        self.ref = weakref.ref(leaf)
        self.shape = tuple(leaf.shape)
        self.is_parameter = isinstance(leaf, nn.Parameter)
        self.walks = 1
        self.since = number
        self.first = content.sample(leaf) if content.readable(leaf) else None
        self.moved = False


class Parameters:
    """The account; see the module."""

    def __init__(self, optimizers: Optimizers, here: Any):
        self.optimizers = optimizers
        self.here = here
        self.births: dict[int, Birth] = {}
        self.roots: dict[int, Root] = {}
        self.open_forwards = 0
        self.born_in_forward = Tally()
        self.walks = 0
        self.survey = Survey()
        self.held: dict[int, Held] = {}
        """The latest survey of each optimizer, those that are gone included."""
        self.site_walks: Counter[Site] = Counter()
        self.reached: dict[int, int] = {}
        """Leaf id -> number of the latest backward pass whose walk reached it."""
        self.orphans: dict[int, Orphan] = {}
        self.untrained: dict[int, Fact] = {}
        """Leaf id -> the latest survey's fact of each orphan, those that are gone included."""
        self.loaded: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.loads: list[int] = []
        """Numbers of the events that loaded weights, the latest ones."""
        self.shallow: list[tuple[Any, Any, Site]] = []
        """Shallow copies of modules: the copy, the original, where it was made."""
        self.aliases = Tally()
        self.fed = Fed()
        self.constants: dict[int, Site] = {}
        """Parameter id -> where it was filled with one value."""
        self.stepped: dict[int, weakref.ref[torch.Tensor]] = {}
        """What some optimizer has stepped, now or earlier."""
        self.leaf_roots = Tally()
        self.no_leaves = Tally()
        self.graph_inputs = Tally()
        """Backward sites whose graph has leaves that are no parameters (gradients of inputs)."""
        self.again: dict[int, tuple[weakref.ref[nn.Module], Site]] = {}
        """Layers that one forward called from several lines of the program, and the last of these."""
        self.recurrent: set[bool] = set()
        """Of the recurrent layers that were called: are they bidirectional?"""
        self.cuts = Tally()
        self.cut_off: set[int] = set()
        """Modules that were called before a cut, or with gradients switched off inside a forward."""
        self.ran: dict[int, tuple[weakref.ref[nn.Module], Site, int]] = {}
        """Modules that returned something with a graph in a recorded forward: where last, and in how many."""
        self._samples: dict[int, tuple[list[Any], list[torch.Tensor]]] = {}
        self.moves: dict[int, list[tuple[int, float]]] = {}

    # Modules

    def after_module(self, event: Event) -> None:
        """A module is being made."""
        if not event.failed and isinstance(event.subject, nn.Module):
            self._born(event.subject, event, copied=False, made=makers(event.subject, nn.Module))

    def after_copied(self, event: Event) -> None:
        """A module came from a copy or a file; copies that torch makes for itself are as good as made."""
        frame = sys._getframe(1)
        kind = -1
        while frame is not None and kind not in (TORCH, USER):
            code = frame.f_code
            kind = -1 if code.co_name == "__setstate__" else kind_of(code.co_filename)
            frame = frame.f_back
        module = event.subject
        if not isinstance(module, nn.Module):
            return
        self._born(module, event, copied=kind != TORCH)
        for birth in list(self.births.values()):
            other = birth.ref()
            if other is not None and other is not module and shares_everything(module, other):
                self.shallow.append((weakref.ref(module), weakref.ref(other), event.site))
                break

    def _born(
        self,
        module: nn.Module,
        event: Event,
        *,
        copied: bool,
        made: tuple[Site | None, Site | None] = (None, None),
    ) -> None:
        site, around = made
        self.births[id(module)] = Birth(
            module, site or event.site, event.number, copied=copied, around=around
        )
        if len(self.births) > 4096 and is_power_of_two(len(self.births)):
            self.births = {key: one for key, one in self.births.items() if one.ref() is not None}

    def after_load_state_dict(self, event: Event) -> None:
        """Weights came from elsewhere."""
        if not event.failed and isinstance(event.subject, nn.Module):
            self.loaded.update(event.subject.modules())
            self.loads = [*self.loads[-255:], event.number]

    def after_init(self, event: Event) -> None:
        """``nn.init`` filled a tensor with one value."""
        if not event.failed and len(self.constants) < 4096:
            self.constants[id(event.subject)] = event.site

    def birth_of(self, module: nn.Module) -> Birth | None:
        """Where a module was made."""
        found = self.births.get(id(module))
        return found if found is not None and found.ref() is module else None

    def maker_of_weight(self, node: Any) -> Site | None:
        """Where the module was made whose own weight an operation was given."""
        leaves = [one.variable for one, _ in node.next_functions if graph.is_leaf_node(one)]
        for birth in list(self.births.values()) if leaves else ():
            module = birth.ref()
            own = module.__dict__.get("_parameters", {}).values() if module is not None else ()
            if any(one is leaf for one in own for leaf in leaves):
                return birth.site
        return None

    def is_fresh(self, module: nn.Module) -> bool:
        """True when it was made by this program and nothing was loaded into it."""
        birth = self.birth_of(module)
        return birth is not None and not birth.copied and module not in self.loaded

    def root_of(self, module: nn.Module) -> Root:
        """The record of a module that is called by the program."""
        found = self.roots.get(id(module))
        if found is None or found.ref() is not module:
            found = self.roots[id(module)] = Root(module)
        return found

    # Forward passes

    def before_forward(self, event: Event) -> None:
        """Record inner calls in the forwards number 1, 2, 4, ... of each root and place."""
        root = self.root_of(event.subject)
        root.forwards += 1
        for copied, original, site in self.shallow:
            if (
                copied() is event.subject
                and original() is not None
                and id(original()) in self.roots
            ):
                seen = self.aliases.add(site, copied=site, called=event.site)
                seen.facts["kind"] = root.kind
        root.sites[event.site] += 1
        if is_power_of_two(root.sites[event.site]) or root.forwards <= 4:
            self.here.inner = []

    def after_forward(self, event: Event) -> None:
        """What was called inside, and where a graph was cut."""
        inner = self.here.inner
        if inner is None or event.failed:
            return
        root = self.root_of(event.subject)
        root.recorded += 1
        counts: Counter[int] = Counter(id(call.module) for call in inner)
        counts[id(event.subject)] += 1
        for key, count in counts.items():
            root.called[key] = root.called.get(key, 0) + 1
            root.children_calls[key] = count
        first: dict[int, Site] = {}
        for call in inner:
            if call.direct and first.setdefault(id(call.module), call.site) is not call.site:
                self.again[id(call.module)] = (weakref.ref(call.module), call.site)
            if isinstance(call.module, nn.RNNBase):
                self.recurrent.add(call.module.bidirectional)
            birth = self.births.get(id(call.module))
            if birth is not None and birth.number > event.number and birth.ref() is call.module:
                seen = self.born_in_forward.add(
                    (birth.site, type(call.module).__name__), made=birth.site
                )
                seen.facts["parameters"] = sum(p.numel() for p in call.module.parameters())
                seen.sites.setdefault("forward", event.site)
        if torch.is_grad_enabled():
            for call in inner:
                if call.grad and call.result_needs and call.direct:
                    times = self.ran.get(id(call.module), (None, None, 0))[2]
                    self.ran[id(call.module)] = weakref.ref(call.module), call.site, times + 1
            self._cuts(event, inner)
            self.fed.after_forward(event, inner, self)

    def _cuts(self, event: Event, inner: list[Any]) -> None:
        """A module whose input needs no gradient although what made that input needs one."""
        given = {
            graph.storage_pointer(one)
            for one in (*event.args, *event.kwargs.values())
            if isinstance(one, torch.Tensor)
        }
        before: list[Any] = []
        off: Any = None
        for call in inner:
            trains = any(p.requires_grad for p in call.module.parameters(recurse=False))
            if call.grad:
                off = None
            elif off is None and any(p.requires_grad for p in call.module.parameters()):
                off = call  # the outermost one, or the first
            if before and trains and call.pointer and not call.needs and call.pointer not in given:
                self._cut(event, call, before[-1])
                self.cut_off.update(id(one.module) for one in before)
            elif not call.grad and trains:
                self._cut(event, call, off)
                self.cut_off.add(id(call.module))
            if call.result_needs and trains:
                before.append(call)

    def _cut(self, event: Event, call: Any, source: Any) -> None:
        """One more forward in which what ``source`` returned came to ``call`` without its graph."""
        seen = self.cuts.add((id(event.subject), id(call.module)), forward=event.site)
        if "at" not in seen.facts and source.site is not None:
            between = (
                cut_between(source.site, call.site) if call is not source and call.site else None
            )
            at: Position | Site = between or source.site
            seen.facts["at"] = at

    # Backward passes

    def before_backward(self, event: Event) -> None:
        """Walk the graph to its leaves, now and then."""
        root = event.subject
        if not isinstance(root, torch.Tensor):
            return
        if root.grad_fn is None:
            if root.requires_grad:
                self.leaf_roots.add(event.site, backward=event.site)
            return
        self.site_walks[event.site] += 1
        if not is_power_of_two(self.site_walks[event.site]):
            return
        self.walks += 1
        owners = self.optimizers.owners()
        known = inputs = 0
        for leaf in graph.leaves(root.grad_fn, WALK_LIMIT):
            self.reached[id(leaf)] = event.number
            if id(leaf) in owners:
                known += 1
                continue
            if not isinstance(leaf, nn.Parameter):
                inputs += 1
            self._orphan(leaf, event.number)
        if inputs:
            self.graph_inputs.add(event.site)
        if owners and not known:
            self.no_leaves.add(event.site, backward=event.site)
        if self.site_walks[event.site] >= 2:
            self.survey = survey(self)
            for key, fact in list(self.untrained.items()):
                orphan = self.orphans.get(key)
                if orphan is None or orphan.ref() is not None:
                    del self.untrained[key]  # it is in the survey, or has found an optimizer
                elif (fact.made, fact.name) in {(f.made, f.name) for f in self.survey.orphans}:
                    del self.untrained[key]  # and made again
            self.untrained |= {fact.key: fact for fact in self.survey.orphans}
            for order, held in self.survey.held.items():
                self.held[order] = held

    def _orphan(self, leaf: torch.Tensor, number: int) -> None:
        found = self.orphans.get(id(leaf))
        if found is None or found.ref() is not leaf:
            if len(self.orphans) < 4096:
                self.orphans[id(leaf)] = Orphan(leaf, number)
            return
        found.walks += 1
        if found.first is not None and content.readable(leaf):
            found.moved = found.moved or not content.same(found.first, content.sample(leaf))

    # Did a step move anything?

    def before_step(self, event: Event) -> None:
        """Sample low-precision parameters at the steps number 1, 2, 4, ..."""
        entry = self.optimizers.of(event.subject, event)
        if not is_power_of_two(entry.watched):
            return
        self.fed.before_step(entry)
        if entry.steps <= 2:
            self.stepped |= {
                id(p): weakref.ref(p) for p in entry.parameters() if p.grad is not None
            }
        low = [
            p
            for p in entry.parameters()
            if p.dtype in (torch.float16, torch.bfloat16)
            and p.grad is not None
            and content.readable(p)
        ][:16]
        if low:
            self._samples[id(entry)] = (low, [content.sample(p, 4096) for p in low])

    def after_step(self, event: Event) -> None:
        """Compare."""
        entry = self.optimizers.of(event.subject, event)
        low, before = self._samples.pop(id(entry), ([], []))
        if low:
            same = total = 0
            with content.quiet():
                for parameter, old in zip(low, before, strict=True):
                    now = content.sample(parameter, 4096)
                    total += now.numel()
                    same += int((now == old).sum())
            self.moves.setdefault(entry.order, []).append((entry.steps, same / max(total, 1)))

    # What rules ask

    def names(self) -> dict[int, str]:
        """Registered parameters of the called roots: id -> dotted name."""
        found: dict[int, str] = {}
        for root in list(self.roots.values()):
            module = root.ref()
            if module is not None:
                for name, parameter in module.named_parameters():
                    found.setdefault(id(parameter), name)
        return found

    def any_root_site(self) -> Site | None:
        """Where the root that was called most often is called."""
        roots = sorted(self.roots.values(), key=lambda one: -one.forwards)
        return next((site for root in roots for site in root.sites), None)

    def loaded_since(self, number: int, until: int | None = None) -> bool:
        """True when weights were loaded into some module after event ``number``, and before ``until``."""
        return any(number < one and (until is None or one < until) for one in self.loads)


def shares_everything(first: nn.Module, second: nn.Module) -> bool:
    """True for a shallow copy: the very dictionaries of layers or parameters are the same."""
    return type(first) is type(second) and any(
        vars(first).get(name) and vars(first)[name] is vars(second).get(name)
        for name in ("_modules", "_parameters")
    )
