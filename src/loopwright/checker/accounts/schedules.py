"""The schedule and checkpoint account: schedulers, state dicts, files."""

from __future__ import annotations

import itertools
import os
import weakref
from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from loopwright.checker.accounts.losses import Losses
from loopwright.checker.accounts.optimizers import Entry, Optimizers
from loopwright.checker.accounts.tally import Tally
from loopwright.events import Event
from loopwright.observe.graph import storage_pointer
from loopwright.observe.sites import Site

HISTORY = 4096


class Schedule:
    """One scheduler."""

    def __init__(self, scheduler: Any, site: Site, entry: Entry | None, number: int):
        self.ref = weakref.ref(scheduler)
        self.kind = type(scheduler).__name__
        self.site = site
        self.entry = entry
        self.made_at = number
        self.steps = 0
        self.sites: Counter[Site] = Counter()
        optimizer = getattr(scheduler, "optimizer", None)
        group = optimizer.param_groups[0] if optimizer is not None else {}
        self.first_rate = float(group.get("initial_lr", group.get("lr", 0.0)))
        self.begins = float(group.get("lr", 0.0))
        """The learning rate when it had been made, before its first step."""
        self.before_first = 0
        """Steps before the optimizer's first."""
        self.last_after_step = False
        self.optimizer_steps: list[int] = []
        """The optimizer's step count at each of its own steps."""
        self.rates: list[float] = []
        self.metrics: list[float] = []
        self.within_losses: list[bool] = []
        """Was each metric within the range of the losses that were computed since the step before?"""
        self.period = _period(scheduler)
        self.mode = (
            getattr(scheduler, "mode", None) if isinstance(scheduler, ReduceLROnPlateau) else None
        )
        self.patience = getattr(scheduler, "patience", None)
        self.part_of_another = False


def _period(scheduler: Any) -> tuple[str, int] | None:
    """How long a schedule says that it lasts, in its own steps: (name of the setting, value)."""
    parts, milestones = getattr(scheduler, "_schedulers", ()), getattr(scheduler, "_milestones", ())
    if parts and milestones:  # one after the other: the last begins at the last milestone
        last = _period(parts[-1])
        return (last[0], milestones[-1] + last[1]) if last is not None else None
    for name in ("T_max", "total_steps", "T_0", "step_size", "total_iters"):
        value = getattr(scheduler, name, None)
        if isinstance(value, int) and value > 0:
            return name, value
    return None


class Schedules:
    """The account; see the module."""

    def __init__(self, optimizers: Optimizers, losses: Losses):
        self.optimizers = optimizers
        self.losses = losses
        self.schedules: list[Schedule] = []
        self._by_id: dict[int, Schedule] = {}
        self.states: list[tuple[weakref.ref[nn.Module], Site, int, int]] = []
        """state_dict() calls: module, place, event number, steps so far."""
        self.self_loads = Tally()
        self.own_loads = Tally()
        """A module that was given its own weights, as they were, at another number of steps each time."""
        self.own_load_at = 0
        self.stale_saves = Tally()
        self.empty_loads: dict[int, dict[str, Any]] = {}
        self.loads: list[dict[str, Any]] = []
        self.saves: list[dict[str, Any]] = []
        self.optimizer_loads = 0

    def after_scheduler(self, event: Event) -> None:
        """A scheduler was made; a subclass's __init__ calls its parent's, the outermost comes last."""
        scheduler = event.subject
        if event.failed or not isinstance(scheduler, LRScheduler):
            return
        known = self._by_id.get(id(scheduler))
        if known is not None and known.ref() is scheduler:
            known.period = _period(scheduler) or known.period
            return
        optimizer = getattr(scheduler, "optimizer", None)
        entry = (
            self.optimizers.of(optimizer, event)
            if isinstance(optimizer, torch.optim.Optimizer)
            else None
        )
        made = Schedule(scheduler, event.site, entry, event.number)
        if made.mode is not None:
            self.losses.follow = True
        self.schedules.append(made)
        del self.schedules[:-512]
        self._by_id[id(scheduler)] = made
        for inner in getattr(scheduler, "_schedulers", ()):
            if (part := self._by_id.get(id(inner))) is not None:
                part.part_of_another = True

    def after_schedule(self, event: Event) -> None:
        """A scheduler was stepped by the program."""
        found = self._by_id.get(id(event.subject))
        if event.failed or found is None or found.ref() is not event.subject:
            return
        entry = found.entry
        found.steps += 1
        found.sites[event.site] += 1
        if entry is not None and entry.steps == 0:
            found.before_first += 1
        if len(found.optimizer_steps) < HISTORY:
            found.optimizer_steps.append(entry.steps if entry is not None else 0)
            group = event.subject.optimizer.param_groups[0]
            rate = group["lr"]
            found.rates.append(float(rate))
            if found.mode is not None:
                metric = event.args[1] if len(event.args) > 1 else event.kwargs.get("metrics")
                try:
                    value = float(metric)  # type: ignore[arg-type]
                except (TypeError, ValueError):
                    return
                low, high = self.losses.take_range()
                found.metrics.append(value)
                found.within_losses.append(low <= value <= high)

    # State dicts and files

    def after_state_dict(self, event: Event) -> None:
        """A state dict was taken: its tensors are the module's own."""
        if not event.failed and isinstance(event.subject, nn.Module):
            self.states = [
                *self.states[-63:],
                (weakref.ref(event.subject), event.site, event.number, self.optimizers.total_steps),
            ]

    def before_load_state_dict(self, event: Event) -> None:
        """Is what is loaded the module itself?"""
        state = event.args[1] if len(event.args) > 1 else event.kwargs.get("state_dict")
        module = event.subject
        if not isinstance(state, dict) or not isinstance(module, nn.Module):
            return
        own = {name: one for name, one in module.named_parameters() if one.numel()}
        given = [name for name in state if name in own and isinstance(state[name], torch.Tensor)]
        shared = [
            name
            for name in given
            if not state[name].is_meta
            and storage_pointer(state[name]) == storage_pointer(own[name]) != 0
        ]
        if not shared or len(shared) < len(given):
            return
        now, whole = self.optimizers.total_steps, len(shared) == len(own)
        takers = [one for one in self.states if one[0]() is module]
        stepped = self.losses.parameters.stepped
        if whole and takers and takers[-1][3] == now > self.own_load_at:
            self.own_load_at = now
            self.own_loads.add((event.site, type(module).__name__), load=event.site)
        elif (
            takers and takers[-1][3] < now and (whole or any(id(own[n]) in stepped for n in shared))
        ):
            seen = self.self_loads.add(
                (takers[-1][1], event.site), state=takers[-1][1], load=event.site
            )
            seen.facts |= {"tensors": len(shared), "steps": now - takers[-1][3]}
        elif not takers and any(
            id(own[name]) in stepped and state[name] is not own[name] for name in shared
        ):  # taken by name, through detach() or cpu(), nobody knows when
            seen = self.self_loads.add((event.site, event.site), load=event.site)
            seen.facts |= {"tensors": len(shared), "steps": None}

    def _is_it_stale(self, state: dict[Any, Any], event: Event) -> None:
        """A state dict whose tensors are a module's own memory, taken some steps before it is written."""
        tensors = [t for t in state.values() if isinstance(t, torch.Tensor) and not t.is_meta]
        if not tensors or any(isinstance(t, nn.Parameter) for t in tensors):
            return
        pointers = {storage_pointer(t) for t in tensors if t.numel()} - {0}  # shards have none
        for ref, site, _, steps in reversed(self.states):
            module = ref()
            own = [p for p in module.parameters() if p.numel()] if module is not None else []
            if not own or storage_pointer(own[0]) not in pointers:
                continue
            if steps < self.optimizers.total_steps:
                seen = self.stale_saves.add((site, event.site), state=site, save=event.site)
                seen.facts |= {
                    "steps": self.optimizers.total_steps - steps,
                    "tensors": len(tensors),
                }
            return

    def after_load_state_dict(self, event: Event) -> None:
        """Did anything fit?"""
        module, result = event.subject, event.result
        if event.failed or not isinstance(module, nn.Module):
            return
        if self.loads:
            few = itertools.islice(module.parameters(), HISTORY)
            self.loads[-1]["into"] |= {id(one): weakref.ref(one) for one in few}
        missing = list(getattr(result, "missing_keys", ()) or ())
        state = event.args[1] if len(event.args) > 1 else event.kwargs.get("state_dict")
        keys = [name for name, _ in module.named_parameters()]
        if keys and state and missing and set(keys) <= set(missing):
            self.empty_loads[id(module)] = {
                "site": event.site,
                "module": weakref.ref(module),
                "missing": len(missing),
                "wanted": keys[0],
                "given": next(iter(state), ""),
                "count": len(state),
            }
        else:
            self.empty_loads.pop(id(module), None)

    def after_load_optimizer(self, event: Event) -> None:
        """An optimizer's state was restored."""
        self.optimizer_loads += 1

    def after_load(self, event: Event) -> None:
        """torch.load: does the file hold an optimizer's state?"""
        if event.failed or len(self.loads) >= 64:
            return
        key = _optimizer_key(event.result)
        if key is not None:
            self.loads.append(
                {
                    "site": event.site,
                    "path": _path(event.args[0] if event.args else event.kwargs.get("f")),
                    "key": key,
                    "number": event.number,
                    "into": {},
                    "fresh": [],
                }
            )

    def before_step(self, event: Event) -> None:
        """Does an optimizer begin, with no state, on what the latest checkpoint was loaded into?"""
        if not self.loads or not self.loads[-1]["into"]:
            return
        load, entry = self.loads[-1], self.optimizers.of(event.subject, event)
        if entry.first_step != event.number:
            return
        if entry.steps > 1 and entry.made_at < load["number"]:
            return  # it had stepped before, while the observer rested
        into = load["into"]
        if any(id(one) in into and into[id(one)]() is one for one in entry.parameters()):
            load["fresh"].append(entry)

    def before_save(self, event: Event) -> None:
        """torch.save of a checkpoint with an optimizer's state; or of a state dict from long ago."""
        value = event.args[0] if event.args else event.kwargs.get("obj")
        for one in [value, *value.values()] if isinstance(value, dict) else ():
            if isinstance(one, dict) and one:
                self._is_it_stale(one, event)
        if len(self.saves) < 256 and _optimizer_key(value) is not None:
            path = event.args[1] if len(event.args) > 1 else event.kwargs.get("f")
            self.saves.append({"site": event.site, "path": _path(path)})


def _optimizer_key(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    for key, one in value.items():
        if isinstance(one, dict) and set(one) == {"state", "param_groups"} and one["state"]:
            return str(key)
    return None


def _path(value: Any) -> str | None:
    try:
        return os.path.abspath(os.fspath(value))
    except TypeError:
        return None
