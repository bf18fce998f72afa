"""The mode account: train or eval, with or without a graph, in every forward, and what became of it.

The unit is a *place*: one call site of one root module. What in a module depends on its mode (dropout,
batch norm) is recorded in the forwards that ``parameters`` records, and in the first one after each
change of mode. Which call of ``train()`` or ``eval()`` set a module's mode last is known by a stamp.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections import deque
from typing import Any

import torch
from torch import nn

from loopwright.checker.accounts.optimizers import Entry, Optimizers
from loopwright.checker.accounts.tally import Tally
from loopwright.checker.accounts.teachers import Teachers
from loopwright.events import Event
from loopwright.observe import content, graph
from loopwright.observe.sites import Site, stack
from loopwright.observe.storing import gives_argument

CHAINS = 8


@dataclasses.dataclass(slots=True)
class Watched:
    """One call whose graph is still there, and how many of its outputs' nodes."""

    place: Place
    size: int
    backwards: int
    left: int


class Stamp:
    """One call of ``train()`` or ``eval()``."""

    __slots__ = ("after", "first_place", "mode", "number", "site", "subject", "undone")

    def __init__(self, number: int, site: Site, *, mode: bool, subject: int = 0):
        self.number, self.site, self.mode, self.subject = number, site, mode, subject
        self.after: Stamp | None = None
        """The ``eval()`` that had set the same module before this one, with no ``train()`` in between."""
        self.undone: Stamp | None = None
        """The ``eval()`` of the same module that this ``train()`` undid before anything was called."""
        self.first_place: Place | None = None
        """Where a module that it set was called first afterwards."""


class Place:
    """One root module called at one place."""

    def __init__(self, root: nn.Module, site: Site):
        self.ref = weakref.ref(root)
        self.root_id = 0
        """The same number for every place of one module."""
        self.kind = type(root).__name__
        self.site = site
        self.calls = 0
        self.with_graph = 0
        self.without_grad = 0
        self.first = self.last = 0
        self.steps_at_first = self.steps_at_last = 0
        self.blocks = 0
        """Groups of calls with no optimizer step in between."""
        self.trained = 0
        """Calls after which a backward pass came before the next call of the same place."""
        self.waiting = False
        self.noisy: dict[str, int] = {}
        """Modules that acted as in training (kind -> recorded calls)."""
        self.noisy_calls = self.recorded = 0
        self.inherited = 0
        """Recorded calls whose training mode was left over from training."""
        self.undone: Stamp | None = None
        """The ``train()`` that came between an ``eval()`` and these calls."""
        self.repeated_inputs = 0
        self.last_input: tuple[int, int, tuple[int, ...]] | None = None
        self.numbers = 0
        """Calls after which a number was read or a loss computed without a graph."""
        self.wasted = 0
        """Marked outputs whose graph died before any backward pass."""
        self.reached = self.missed = 0
        """Looked-at backward passes that ran through an output of this place; that did not."""
        self.differentiated = 0
        """Looked-at calls of ``autograd.grad`` that did."""
        self.waste_bytes = 0
        """The most that one of those graphs held, about."""
        self.chains: list[list[tuple[Any, int, int]]] = []
        self.quiet_modules: dict[str, int] = {}
        """In training calls: modules in eval mode that trained in train mode before."""
        self.quiet_calls = 0
        self.acted = False
        """Some module has been trained as in training, here or at another place, when it was trained here."""
        self.quiet_stamp: Stamp | None = None
        self.fed_by_graph = 0
        self.feeds_root = 0
        self.looked_at = 0
        self.held = False
        """An optimizer holds its parameters."""
        self.parameter = 0
        """The id of one of its parameters."""
        self.values_moved = False
        self.first_values: torch.Tensor | None = None

    def measures(self) -> bool:
        """True when no gradient ever came back through what is called here."""
        return self.without_grad >= self.calls or (
            self.reached == 0 and self.missed + self.wasted >= 2
        )

    def first_parameter(self) -> int:
        """The id of a trainable parameter; 0 without one."""
        root = self.ref()
        return (
            next((id(p) for p in root.parameters() if p.requires_grad), 0)
            if root is not None
            else 0
        )


def depends_on_mode(module: nn.Module) -> str | None:
    """What of a module acts differently in training: "Dropout(p=0.5)", "BatchNorm1d", or None."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return f"{type(module).__name__}(p={module.p})" if module.p > 0 else None
    if isinstance(module, nn.modules.batchnorm._NormBase):
        instance = isinstance(module, nn.modules.instancenorm._InstanceNorm)
        return type(module).__name__ if module.track_running_stats or not instance else None
    if isinstance(module, nn.RNNBase):
        return (
            f"{type(module).__name__}(dropout={module.dropout})"
            if module.dropout and module.num_layers > 1
            else None
        )
    if isinstance(module, nn.MultiheadAttention):
        return f"MultiheadAttention(dropout={module.dropout})" if module.dropout else None
    return None


def frozen_part(root: nn.Module, inner: nn.Module) -> str:
    """The path of the largest part around ``inner`` with nothing to train: "" is the root itself."""
    path = next((name for name, one in root.named_modules() if one is inner), "")
    steps = path.split(".") if path else []
    for length in range(len(steps)):
        part = ".".join(steps[:length])
        if not any(p.requires_grad for p in root.get_submodule(part).parameters()):
            return part
    return path


class Modes:
    """The account; see the module."""

    def __init__(self, optimizers: Optimizers, here: Any):
        self.optimizers = optimizers
        self.here = here
        self.places: dict[tuple[int, Site], Place] = {}
        self.stamps: dict[int, Stamp] = {}
        self.teachers = Teachers(optimizers)
        self.newest = self.latest = 0
        """The numbers of the newest stamp and of the latest forward."""
        self.trained_in_train: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.functional = Tally()
        """F.dropout without ``training=`` in a module that is in eval mode."""
        self.backwards = self.steps = self.stepped = 0
        self.step_chain: list[tuple[Any, int, int]] = []
        self.last_place: Place | None = None
        self.unread: Place | None = None
        """The place called last, as long as no number was read since."""
        self._pending: list[tuple[Place, nn.Module, list[tuple[nn.Module, str]]]] = []
        self._nodes: dict[Place, list[Any]] = {}
        self._outputs: list[tuple[list[weakref.ref[Any]], Place]] = []
        self._watched: dict[weakref.ref[graph.Mark], Watched] = {}
        self._gone: deque[weakref.ref[graph.Mark]] = deque()
        self._root_ids: dict[int, tuple[weakref.ref[nn.Module], int]] = {}
        self.frozen_norms: dict[int, tuple[str, Place, int, str]] = {}
        """Batch norms with frozen weights that were in train mode in a training forward: kind, place, number
        of the forward, path of the frozen part that it stands in."""
        self._frozen_weights: dict[int, torch.Tensor] = {}
        self.free_norms: dict[int, int] = {}
        """Batch norms that were trainable in some forward -> number of the latest one."""
        self.feeds: dict[Site, tuple[int, int]] = {}
        """Place of a call fed by another root's graph -> a parameter of the source, one of the sink."""
        self.fed_before: dict[Site, set[Site]] = {}
        self._fed_now: list[Site] = []
        self.trained_at: dict[int, int] = {}
        """Root id -> number of the latest backward pass that followed a training forward of it."""

    def after_mode(self, event: Event) -> None:
        """``train()`` or ``eval()`` was called: stamp what it set."""
        if event.failed or not isinstance(event.subject, nn.Module):
            return
        subject = event.subject
        stamp = Stamp(event.number, event.site, mode=subject.training, subject=id(subject))
        self.newest = event.number
        for module in subject.modules():
            if depends_on_mode(module) is not None:
                old = self.stamps.get(id(module))
                if old is not None and not (stamp.mode or old.mode) and old.number < self.stepped:
                    stamp.after, old.after = old, None
                if stamp.mode and old is not None and not old.mode and old.subject == id(subject):
                    stamp.undone = old if old.number > self.latest else None
                self.stamps[id(module)] = stamp

    def before_forward(self, event: Event) -> None:
        """Count the call; record inside it when its mode is new here."""
        module = event.subject
        self.latest = event.number
        key = (id(module), event.site)
        place = self.places.get(key)
        if place is None or place.ref() is not module:
            if len(self.places) > 1024 or next(module.parameters(), None) is None:
                return  # a criterion is no model
            place = self.places[key] = Place(module, event.site)
            known = self._root_ids.get(id(module))
            if known is None or known[0]() is not module:
                known = self._root_ids[id(module)] = (
                    weakref.ref(module),
                    len(self._root_ids) + event.number,
                )
            place.root_id = known[1]
        place.calls += 1
        grad = torch.is_grad_enabled()
        if grad:
            place.with_graph += 1
        else:
            place.without_grad += 1
        self._input(place, event)
        if not place.first:
            place.first, place.steps_at_first = event.number, self.optimizers.total_steps
        if place.blocks == 0 or self.optimizers.total_steps != place.steps_at_last:
            place.blocks += 1
            if len(place.chains) < CHAINS:
                place.chains.append(stack(2))
        place.last, place.steps_at_last = event.number, self.optimizers.total_steps
        place.waiting = grad
        if self.here.inner is None and self.newest > place.looked_at and place.recorded < 64:
            self.here.inner = []
        place.looked_at = event.number
        self.last_place = place
        self.unread = place

    def _input(self, place: Place, event: Event) -> None:
        first = next((one for one in event.args if isinstance(one, torch.Tensor)), None)
        if first is None:
            place.last_input = None
            return
        if first.grad_fn is not None:
            self._fed(place, first)
        try:
            described = (graph.storage_pointer(first), first._version, tuple(first.shape))
        except RuntimeError:  # an inference tensor has no version
            described = (graph.storage_pointer(first), 0, tuple(first.shape))
        if described == place.last_input and self.optimizers.total_steps == place.steps_at_last:
            place.repeated_inputs += 1
        place.last_input = described

    def _fed(self, place: Place, first: torch.Tensor) -> None:
        """The input carries a graph: of which root's output?"""
        place.fed_by_graph += 1
        maker = graph.producer(first.grad_fn)
        for refs, other in self._outputs:
            held = [output for ref in refs if (output := ref()) is not None]
            if other is not place and any(
                output is first or output.grad_fn is maker for output in held
            ):
                other.feeds_root += 1
                if place.calls <= CHAINS:
                    pair = (other.first_parameter(), place.first_parameter())
                    self.feeds[place.site] = pair
                self._fed_now.append(place.site)

    def fed_through(self, backward: Site, user: Entry, upstream: Entry) -> Site | None:
        """Where, before passes of ``backward``, a module of ``user`` was fed by one of ``upstream``."""
        for site in self.fed_before.get(backward, ()):
            source, sink = self.feeds.get(site, (0, 0))
            if source in upstream.parameter_ids and sink in user.parameter_ids:
                return site
        return None

    def after_dropout(self, event: Event) -> None:
        """A functional dropout inside a recorded forward."""
        place = self.last_place
        root = place.ref() if place is not None else None
        if root is None or place is None:
            return
        direct = event.result is True
        training = event.args[2] if len(event.args) > 2 else event.kwargs.get("training", True)
        p = event.args[1] if len(event.args) > 1 else event.kwargs.get("p", 0.5)
        if direct and training and p:
            place.noisy[f"F.{event.subject}(p={p})"] = (
                place.noisy.get(f"F.{event.subject}(p={p})", 0) + 1
            )
            if not root.training and not gives_argument(event.site, 2, "training"):
                seen = self.functional.add(event.site, dropout=event.site, forward=place.site)
                seen.facts |= {"p": p, "root": type(root).__name__, "name": event.subject}

    def _dropped_inside(self, place: Place, event: Event, inner: list[Any]) -> None:
        """Attention that was told to drop while everything around it was in eval mode."""
        if event.subject.training or any(call.training for call in inner):
            return
        for one in self.here.operations or ():
            p = one.plain.get("dropout_p", one.plain.get(4, 0.0))
            if one.name == "scaled_dot_product_attention" and p:
                seen = self.functional.add(one.site, dropout=one.site, forward=place.site)
                root = type(event.subject).__name__
                seen.facts |= {"p": p, "root": root, "name": one.name}

    def after_forward(self, event: Event) -> None:
        """What acted as in training, and what becomes of the output."""
        place = self.places.get((id(event.subject), event.site))
        inner = self.here.inner
        if event.failed or place is None:
            return
        if inner is not None:
            self._recorded(place, event, inner)
            self._dropped_inside(place, event, inner)
        outputs = graph.outputs_of(event.result) if torch.is_grad_enabled() else []
        if outputs:
            self._outputs = [*self._outputs[-3:], ([weakref.ref(one) for one in outputs], place)]
            if place.reached + place.missed < CHAINS:
                # One call's graphs live until the next forward there or the next backward pass.
                self._nodes[place] = [one.grad_fn for one in outputs]
            if place.calls <= 8 or content.is_power_of_two(place.calls):
                self._watch_outputs(place, outputs, event.number)

    def _recorded(self, place: Place, event: Event, inner: list[Any]) -> None:
        place.recorded += 1
        teachers = self.teachers.inside(inner, depends_on_mode)
        acting: list[tuple[nn.Module, str]] = []
        resting: list[tuple[nn.Module, str]] = []
        for module, training in [(c.module, c.training) for c in inner] + [
            (event.subject, event.subject.training)
        ]:
            what = depends_on_mode(module)
            if what is None:
                continue
            (acting if training else resting).append((module, what))
            stamp = self.stamps.get(id(module))
            if stamp is not None and stamp.first_place is None:
                stamp.first_place = place
        if acting:
            place.noisy_calls += 1
            for _, what in acting:
                place.noisy[what] = place.noisy.get(what, 0) + 1
            stamps = [self.stamps[id(m)] for m, _ in acting if id(m) in self.stamps]
            since = max((one.number for one in stamps), default=0)
            trained = self.trained_at.get(id(event.subject), 0)
            undone = [one for one in stamps if one.undone is not None]
            place.inherited += trained > since or (bool(undone) and trained > 0)
            if undone and trained <= since:
                place.undone = undone[0]
        if torch.is_grad_enabled():
            self._pending = [*self._pending[-8:], (place, event.subject, acting + resting)]
        for module, _ in acting:
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.weight is not None:
                if id(module) in teachers:
                    continue
                if module.weight.requires_grad:
                    self.free_norms[id(module)] = event.number
                else:
                    self._frozen_norm(place, event, module)
        self._values(place, event.subject)

    def _frozen_norm(self, place: Place, event: Event, module: Any) -> None:
        """A batch norm that no gradient trains; where its weights move all the same it follows another."""
        key = id(module)
        if not content.readable(module.weight):
            return
        now = content.sample(module.weight)
        if key not in self.frozen_norms:
            part = frozen_part(event.subject, module)
            self.frozen_norms[key] = (type(module).__name__, place, event.number, part)
            self._frozen_weights[key] = now
        elif not content.same(self._frozen_weights[key], now):
            self.free_norms[key] = event.number

    def _values(self, place: Place, root: nn.Module) -> None:
        """Is the module in an optimizer, and do its weights change?"""
        first = next(iter(root.parameters()), None)
        if first is None or not content.readable(first):
            return
        place.parameter = id(first)
        place.held = place.held or any(
            id(first) in one.parameter_ids for one in self.optimizers.live()
        )
        if place.first_values is None:
            place.first_values = content.sample(first)
        elif not place.values_moved:
            place.values_moved = not content.same(place.first_values, content.sample(first))

    def _watch_outputs(self, place: Place, outputs: list[torch.Tensor], number: int) -> None:
        """When the last graph of one call is gone: did a backward pass come before?"""
        marks = [graph.mark(node, number) for node in dict.fromkeys(one.grad_fn for one in outputs)]
        size = max(graph.result_bytes(one.grad_fn) for one in outputs)
        self.look_at_gone()
        if len(self._watched) < 256:
            call = Watched(place, size, self.backwards, len(marks))
            # No Python of ours when one goes: an interrupt in it would be lost to the program.
            self._watched |= {weakref.ref(mark, self._gone.append): call for mark in marks}

    def look_at_gone(self) -> None:
        """Count the graphs that have gone; asked before anything that they are compared with changes."""
        while self._gone:
            call = self._watched.pop(self._gone.popleft())
            call.left -= 1
            if not call.left and call.backwards == self.backwards:
                call.place.wasted += 1
                call.place.waste_bytes = max(call.place.waste_bytes, call.size)

    def before_backward(self, event: Event) -> None:
        """Does this pass run through the outputs of the last forwards? Looked at a few times a place."""
        root = event.subject
        if not isinstance(root, torch.Tensor) or root.grad_fn is None:
            return
        asked, self._nodes = self._nodes, {}
        if asked:
            through = set(graph.nodes(root.grad_fn, 20_000))
            for place, outputs in asked.items():
                found = any(node in through for node in outputs)
                place.reached += found
                place.missed += not found

    def before_grad(self, event: Event) -> None:
        """``autograd.grad`` uses the graphs of the last forwards too, as a gradient penalty does."""
        asked = {p: nodes for p, nodes in self._nodes.items() if p.differentiated < CHAINS}
        given = dict(zip(("outputs", "inputs"), event.args, strict=False)) | event.kwargs
        roots, inputs = graph.outputs_of(given.get("outputs")), given.get("inputs")
        if not asked or not roots:
            return
        into = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
        trains = given.get("create_graph") or any(isinstance(one, nn.Parameter) for one in into)
        through = {node for root in roots for node in graph.nodes(root.grad_fn, 20_000)}
        for place, outputs in asked.items():
            if any(node in through for node in outputs):
                place.differentiated += 1
                place.reached += bool(trains)

    def after_backward(self, event: Event) -> None:
        """Which places train; and which of their modules did so in eval mode."""
        if event.failed:
            return
        self.look_at_gone()
        self.backwards += 1
        if self._fed_now:
            self.fed_before.setdefault(event.site, set()).update(self._fed_now)
            self._fed_now = []
        for place in (
            self.places.values()
            if len(self.places) < 8
            else [p for p in self.places.values() if p.waiting]
        ):
            if place.waiting:
                place.waiting = False
                place.trained += 1
                root = place.ref()
                if root is not None:
                    self.trained_at[id(root)] = event.number
        for place, _, modules in self._pending:
            noted = False
            for module, what in modules:
                if module.training:
                    self.trained_in_train.add(module)
                    place.acted = True
                    continue
                stamp = self.stamps.get(id(module))
                again = stamp is not None and stamp.after is not None
                place.acted = place.acted or module in self.trained_in_train
                if module in self.trained_in_train or again:
                    place.quiet_modules[what] = place.quiet_modules.get(what, 0) + 1
                    noted = True
                    if stamp is not None and not stamp.mode:
                        place.quiet_stamp = stamp
            place.quiet_calls += noted
        self._pending = []

    def before_step(self, event: Event) -> None:
        """Where in the program steps happen, for telling before from after."""
        self.steps += 1
        self.stepped = event.number
        if content.is_power_of_two(self.steps):
            self.step_chain = stack(2)

    def after_item(self, event: Event) -> None:
        """A number was read."""
        if self.unread is not None:
            self.unread.numbers += 1
            self.unread = None

    def after_loss(self, event: Event) -> None:
        """A loss without a graph is a measurement."""
        if self.unread is not None and not torch.is_grad_enabled():
            self.unread.numbers += 1
            self.unread = None
