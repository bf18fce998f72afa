"""Hears the observer's events and puts each into the statement that it happened in, with its facts."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from loopwright.events import PHASE_OF, Event
from loopwright.events.explained import StateNote
from loopwright.explainer.effects import (
    byhand,
    device,
    functional,
    generators,
    graph,
    objects,
    reads,
    retained,
    rule,
    values,
)
from loopwright.explainer.effects.given import (
    autocast,
    first_tensors,
    given,
    parameters_of,
    roots_of,
    shapes,
)
from loopwright.explainer.effects.modulecalls import ModuleCalls
from loopwright.explainer.effects.names import name_of
from loopwright.explainer.effects.opened import Open
from loopwright.explainer.effects.saved import Held, holders
from loopwright.explainer.times.alone import library_alone
from loopwright.observe import content

if TYPE_CHECKING:
    from loopwright.explainer.record import Recording


WRITES = ("backward", "grad", "zero_grad", "step", "clip", "unscale", "scaler_step", "schedule")
"""What these change is compared at once, since one statement may hold several of them."""

OF_KIND = {
    "func_grad": "grad",
    "mapped_grad": "grad",
    "functional_call": "forward",
    "format": "item",
}
"""Other ways to do what these calls do, most of them those of ``torch.func``."""
NAMED = 3
"""Variables that are named as holding what backward did not free."""
LOSSES = 10_000
"""Losses of further turns that are collected of a loop."""


class Calls:
    """The listener of an explanation. ``before_KIND`` opens an event, ``after_KIND`` closes it."""

    def __init__(self, recording: Recording):
        self.recording = recording
        self.open: list[Open] = []
        self.chosen: WeakKeyDictionary[Any, rule.Chosen] = WeakKeyDictionary()
        self.state_keys: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
        self.scaled: dict[int, float] = {}
        self.cast = ""
        """What autocast cast to in the last forward pass."""
        self.retained: list[Held] = []
        for kind in PHASE_OF:
            if kind in ("module", "copied", "dropout", "generator_state"):
                continue  # thousands of them, or heard of otherwise
            setattr(self, f"before_{kind}", self._before(OF_KIND.get(kind, kind), kind))
            setattr(self, f"after_{kind}", self._after(OF_KIND.get(kind, kind), kind))

    def _before(self, kind: str, own: str) -> Any:
        more = getattr(self, f"_{own}_begins", None)

        def begins(event: Event) -> None:
            recording = self.recording
            if not recording.hears(kind, event):
                return
            since = recording.time.mark()
            opened = Open(kind)
            self.open.append(opened)
            if more is not None and recording.deep:
                with recording.ours():
                    more(event, opened)
            if PHASE_OF[kind] is not None and recording.times:
                opened.span = device.Span(kind, event.site, 0, first=device.mark())
                turn = recording.turn
                if turn is not None and not recording.deep:
                    alone = library_alone(kind, event, turn.record.data)
                    opened.paused = alone and recording.lines.pause()
            # What we did is not the call's time.
            recording.time.spend(since, recording.time.hook)
            opened.began = recording.time.now()
            if opened.span is not None:
                opened.span.began = opened.began
                waits = device.waits_for(event)
                if waits is not None:
                    device.wait(waits)
                    opened.span.waited = recording.time.now() - opened.began

        return begins

    def _after(self, kind: str, own: str) -> Any:
        more = getattr(self, f"_{own}_ends", None)

        def ends(event: Event) -> None:
            recording = self.recording
            since = recording.time.mark()
            if not recording.lines.mine() or not any(one.kind == kind for one in self.open):
                return
            while self.open[-1].kind != kind:
                self._close()  # an exception left it
            opened = self._close()
            ended = recording.time.now()
            took = max(0, ended - opened.began)
            if self.open:
                self.open[-1].inside += took
            if kind == "loss" and self.open:
                self.open[-1].loss = True
            criterion = (
                opened.loss
                and kind == "forward"
                and not any(True for _ in event.subject.parameters())
            )
            opened.facts["criterion"] = criterion
            span = opened.span
            if span is not None:
                span.ended = ended
                span.last = device.mark()
                if self.open and self.open[-1].span is not None:
                    self.open[-1].span.inner.append(span)
            recording.timed("loss" if criterion else kind, took - opened.inside, span)
            if not criterion:
                recording.happened(kind, event)
            if recording.deep and not event.failed:
                with recording.ours():
                    if kind in WRITES:
                        recording.boundary_inside(backward=kind in ("backward", "grad"))
                    if more is not None:
                        more(event, opened)
                    recording.note(kind, event.site, opened.facts, took)
            elif recording.deep and kind == "fetch":
                opened.facts["ended"] = True
                recording.note(kind, event.site, opened.facts, took)
            else:
                self._light(kind, event)
            recording.time.spend(since)
            recording.may_stop()

        return ends

    def _close(self) -> Open:
        opened = self.open.pop()
        if opened.paused:
            self.recording.lines.go_on()
        return opened

    def _light(self, kind: str, event: Event) -> None:
        turn = self.recording.turn
        if turn is not None and len(turn.record.losses) < LOSSES:
            for root in roots_of(event) if kind == "backward" else functional.losses(event):
                self._loss(root, event)

    def _loss(self, root: torch.Tensor, event: Event) -> float | None:
        if root.numel() != 1 or (root.is_cuda and not self.recording.deep):
            return None
        with values.quiet():
            value = float(root.detach())
        value /= self.scaled.get(id(root), 1.0)
        turn = self.recording.turn
        if turn is not None:
            turn.had(value, event.site)
        return value

    # data

    def _fetch_ends(self, event: Event, opened: Open) -> None:
        opened.facts["batch"] = [
            {"shape": list(one.shape), "dtype": str(one.dtype).removeprefix("torch."),
             "device": str(one.device), "bytes": values.bytes_of(one)}
            for _, one in objects.tensors_in(event.result, "batch")
        ]  # fmt: skip
        opened.facts["workers"] = getattr(event.subject, "_num_workers", 0)

    def _transfer_begins(self, event: Event, opened: Open) -> None:
        one = event.subject
        if isinstance(one, torch.nn.Module):
            opened.facts.update(objects.module_facts(one))
            one = next(iter(one.parameters()), None)
        if isinstance(one, torch.Tensor):
            opened.kept = (str(one.device), str(one.dtype).removeprefix("torch."))
            if torch.cuda.is_initialized() and one.device.type == "cpu":
                opened.facts["pinned"] = one.is_pinned()

    def _transfer_ends(self, event: Event, opened: Open) -> None:
        result = event.result
        name = name_of(event.subject, self._frame(event))
        opened.facts["name"] = name
        opened.facts["is"] = "module" if isinstance(event.subject, torch.nn.Module) else "tensor"
        one = (
            next(iter(result.parameters()), None) if isinstance(result, torch.nn.Module) else result
        )
        if opened.kept is None or not isinstance(one, torch.Tensor):
            return
        facts = opened.facts
        facts["from_device"], facts["from_dtype"] = opened.kept
        facts["device"], facts["dtype"] = str(one.device), str(one.dtype).removeprefix("torch.")
        if isinstance(result, torch.Tensor):
            facts["bytes"], facts["copied"] = values.bytes_of(result), result is not event.subject
        else:
            facts["copied"] = opened.kept != (facts["device"], facts["dtype"])

    # gradients

    def _zero_grad_begins(self, event: Event, opened: Open) -> None:
        subject = event.subject
        parameters = parameters_of(subject)
        norm, count = self.recording.state.grad_norm(parameters)
        unused, partly = self.recording.state.unused(parameters)
        opened.facts.update(
            {"name": name_of(subject, self._frame(event)), "kind": type(subject).__name__,
             "of": len(parameters), "had": count, "norm": norm,
             "unused": unused, "partly": partly,
             "numbers": sum(p.numel() for p in parameters)}
        )  # fmt: skip
        if any(one.kind == "step" for one in self.open):  # in a closure
            opened.facts["inside"] = True

    def _backward_begins(self, event: Event, opened: Open) -> None:
        recording = self.recording
        roots = roots_of(event)
        # A graph that was retained goes when its loss's name is given to another one.
        self.retained = [one for one in self.retained if one.look(graph.next_number())]
        if recording.replays is not None:
            recording.replays.backward_begins(recording.turn, roots)
        for root in roots:
            if root.grad_fn is None and root.requires_grad:
                recording.names.leaf(root, self._frame(event))
        frame = self._frame(event)
        place = event.site.position()
        recording.names.uncalled(frame)
        note, saved = graph.capture(
            roots, recording.marks, lambda leaf: recording.names.leaf(leaf, frame),
            line=place.line,
        )  # fmt: skip
        opened.kept = note, saved, graph.next_number(), retained.waiting(frame)
        note.value = self._loss(roots[0], event) if roots else None
        for root in roots:
            byhand.rooted(recording, root, note.value if root is roots[0] else None)
        again = (("retain_graph", 2), ("create_graph", 3))
        note.freed = not any(given(event, name, at) for name, at in again)
        opened.facts.update(
            {"root": name_of(roots[0], frame) if roots else "", "value": note.value, "nodes": note.nodes,
             "root_node": roots[0].grad_fn.name() if roots and roots[0].grad_fn is not None else "",
             "leaves": note.leaves, "freed": note.freed, "roots": len(roots)}
        )  # fmt: skip

    def _backward_ends(self, event: Event, opened: Open) -> None:
        if opened.kept is None:
            return
        note, saved, number, waiting = opened.kept
        held = holders(graph.settle(note, saved, number), self._frame(event))
        opened.facts.update(
            {"saved_bytes": note.saved_bytes, "saved_tensors": note.saved_tensors,
             "freed_bytes": note.freed_bytes, "still": list(dict.fromkeys(held.values()))[:NAMED],
             "hooked": saved.hooked}
        )  # fmt: skip
        opened.facts["retained"] = retained.kept(waiting)
        for one in saved.held:
            one.alone = one.alone and one.key not in held
        self.retained += [one for one in saved.held if one.storage is not None]
        self.recording.graph(note, saved.held)

    def _grad_begins(self, event: Event, opened: Open) -> None:
        inputs = event.args[1] if len(event.args) > 1 else event.kwargs.get("inputs", ())
        inputs = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs)
        opened.facts["inputs"] = len(inputs)
        for one in inputs:
            if one.is_leaf:
                self.recording.names.leaf(one, self._frame(event))
        opened.facts["create_graph"] = bool(event.kwargs.get("create_graph"))

    def _func_grad_ends(self, event: Event, opened: Open) -> None:
        values = [self._loss(root, event) for root in functional.losses(event)]
        opened.facts.update(functional.taken(event), value=values[0] if values else None)

    def _mapped_grad_ends(self, event: Event, opened: Open) -> None:
        opened.facts.update(functional.taken(event), value=None)

    def _jacobian_ends(self, event: Event, opened: Open) -> None:
        opened.facts["function"] = event.name

    # the model

    def _functional_call_begins(self, event: Event, opened: Open) -> None:
        name = self.recording.names.module(event.subject, self._frame(event))
        opened.facts.update(functional.called(event, name))

    def _functional_call_ends(self, event: Event, opened: Open) -> None:
        opened.facts["outputs"] = shapes([event.result])

    def _forward_begins(self, event: Event, opened: Open) -> None:
        recording = self.recording
        module = event.subject
        frame = self._frame(event)
        name = recording.names.module(module, frame)
        with_grad = torch.is_grad_enabled()
        opened.facts.update(
            {"name": name, "kind": type(module).__name__, "training": module.training, "grad": with_grad,
             "inputs": shapes([*event.args, *event.kwargs.values()]), "autocast": autocast()}
        )  # fmt: skip
        self.cast = opened.facts["autocast"]
        calls = ModuleCalls(recording, module, event.args, name)
        here = recording.observer.here
        here.inner = [] if here.inner is None else here.inner
        here.inner_call = calls.call
        opened.kept = calls

    def _forward_ends(self, event: Event, opened: Open) -> None:
        here = self.recording.observer.here
        here.inner_call = None
        calls = opened.kept
        calls.root.left(event.result)
        outputs = first_tensors([event.result])
        opened.facts["outputs"] = [
            {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch."),
             "requires_grad": t.requires_grad, "node": t.grad_fn.name() if t.grad_fn is not None else ""}
            for t in outputs
        ]  # fmt: skip
        opened.facts["nodes"] = calls.root.end - calls.root.start
        opened.facts["modules"] = calls.table()
        opened.facts["active_dropout"] = calls.active(objects.drops)
        opened.facts["active_norms"] = calls.active(objects.is_batch_norm)

    def _loss_ends(self, event: Event, opened: Open) -> None:
        function = getattr(torch.nn.functional, str(event.subject))
        try:
            bound = inspect.signature(function).bind(*event.args, **event.kwargs)
            bound.apply_defaults()
            reduction = bound.arguments.get("reduction")
        except (TypeError, ValueError):
            reduction = None
        first = [one for one in event.args if isinstance(one, torch.Tensor)]
        opened.facts.update({"function": event.subject, "reduction": reduction,
                             "shapes": [list(one.shape) for one in first[:2]]})  # fmt: skip
        if isinstance(event.result, torch.Tensor) and event.result.numel() == 1:
            with values.quiet():
                opened.facts["value"] = float(event.result.detach())

    # the optimizer

    def _optimizer_ends(self, event: Event, opened: Open) -> None:
        if event.subject.param_groups:
            opened.facts.update(objects.optimizer_facts(event.subject))
            self.recording.state.add_optimizer("", event.subject)

    def _param_group_ends(self, event: Event, opened: Open) -> None:
        name = self.recording.names.optimizer(event.subject, self._frame(event))
        self.recording.state.add_groups(name, event.subject)
        opened.facts.update(name=name, **objects.group_facts(event.subject))

    def _step_begins(self, event: Event, opened: Open) -> None:
        recording = self.recording
        optimizer = event.subject
        name = recording.names.optimizer(optimizer, self._frame(event))
        recording.boundary_inside()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            recording.rank = torch.distributed.get_rank()
        parameters = parameters_of(optimizer)
        norm, count = recording.state.grad_norm(parameters)
        opened.facts.update({"name": name, "kind": type(optimizer).__name__, "of": len(parameters),
                             "with_grad": count, "grad_norm": norm,
                             "lr": float(optimizer.param_groups[0].get("lr", 0.0))})  # fmt: skip
        if any((*event.args[1:], event.kwargs.get("closure"))):
            opened.facts["closure"] = True
            return
        recording.state.plan(optimizer)
        chosen = self.chosen.get(optimizer)
        if chosen is None or chosen.parameter() is None:
            found = rule.choose(optimizer)
            if found is None:
                return
            chosen = self.chosen[optimizer] = found
        rule.before_step(optimizer, chosen)
        opened.kept = chosen

    def _step_ends(self, event: Event, opened: Open) -> None:
        recording = self.recording
        optimizer = event.subject
        recording.state.use(parameters_of(optimizer))
        name = opened.facts.get("name", "")
        if opened.kept is not None:
            parameter = opened.kept.parameter()
            called = recording.names.leaf(parameter, None) if parameter is not None else ""
            written = rule.after_step(optimizer, opened.kept, name, called)
            if written is not None:
                recording.rule(written)
        recording.optimizer_state(self._state(optimizer, name))

    def _state(self, optimizer: Any, name: str) -> StateNote | None:
        sizes: dict[str, int] = {}
        size = 0
        for state in optimizer.state.values():
            for key, value in state.items() if isinstance(state, dict) else ():
                if isinstance(value, torch.Tensor):
                    sizes[key] = sizes.get(key, 0) + value.numel()
                    size += values.bytes_of(value)
        known = self.state_keys.setdefault(optimizer, set())
        born = {key: count for key, count in sizes.items() if key not in known}
        changed = [key for key in sizes if key in known]
        known |= set(sizes)
        return StateNote(name, born, size, changed) if sizes else None

    def _clip_begins(self, event: Event, opened: Open) -> None:
        self.recording.boundary_inside()
        listed = event.args[0] if event.args else event.kwargs.get("parameters", [])
        tensors = [listed] if isinstance(listed, torch.Tensor) else list(listed)
        norm, count = self.recording.state.grad_norm(tensors)
        limit = event.args[1] if len(event.args) > 1 else event.kwargs.get(
            "max_norm", event.kwargs.get("clip_value"))  # fmt: skip
        grads = [one.grad for one in tensors if one.grad is not None]
        opened.kept = [one for one in grads if content.readable(one)]
        opened.facts.update({"norm": norm, "count": count, "limit": float(limit)})
        with values.quiet():
            opened.facts["beyond"] = sum(int((one.abs() > limit).sum()) for one in opened.kept)

    def _clip_ends(self, event: Event, opened: Open) -> None:
        beyond = opened.facts.pop("beyond")
        if isinstance(event.result, torch.Tensor):
            with values.quiet():
                opened.facts["total_norm"] = float(event.result)
        else:  # ``clip_grad_value_`` returns nothing, and clips each number by itself
            numbers = sum(one.numel() for one in opened.kept)
            opened.facts.update({"beyond": beyond, "numbers": numbers})

    def _scale_ends(self, event: Event, opened: Open) -> None:
        scale = float(event.subject.get_scale())
        opened.facts.update(scale=scale, enabled=event.subject.is_enabled(), autocast=self.cast)
        if isinstance(event.result, torch.Tensor):
            self.scaled = {id(event.result): scale}

    def _scaler_step_begins(self, event: Event, opened: Open) -> None:
        opened.facts["scale"] = float(event.subject.get_scale())

    def _schedule_ends(self, event: Event, opened: Open) -> None:
        name = name_of(event.subject, self._frame(event))
        opened.facts.update({"kind": type(event.subject).__name__, "name": name})

    # the rest

    def _mode_begins(self, event: Event, opened: Open) -> None:
        opened.facts["name"] = self.recording.names.module(event.subject, self._frame(event))

    def _mode_ends(self, event: Event, opened: Open) -> None:
        modules = list(event.subject.modules())
        opened.facts["training"] = event.subject.training
        opened.facts["dropouts"] = sum(map(objects.drops, modules))
        opened.facts["norms"] = sum(map(objects.is_batch_norm, modules))

    def _format_begins(self, event: Event, opened: Open) -> None:
        opened.facts.update(reads.begins(event, name_of(event.subject, self._frame(event))))

    def _format_ends(self, event: Event, opened: Open) -> None:
        opened.facts.update(reads.ends(event))

    def _item_begins(self, event: Event, opened: Open) -> None:
        self._format_begins(event, opened)
        one, recording, name = event.subject, self.recording, opened.facts["name"]
        if recording.replays is not None and not recording.skips():
            recording.replays.reads(recording.turn, recording.visit(), one, name, event.site)

    _item_ends = _format_ends

    def _epoch_ends(self, event: Event, opened: Open) -> None:
        opened.facts.update({"name": name_of(event.subject, self._frame(event)),
                             **objects.loader_facts(event.subject)})  # fmt: skip

    def _seed_begins(self, _: Event, __: Open) -> None:
        self.recording.boundary_inside()

    def _seed_ends(self, event: Event, opened: Open) -> None:
        opened.facts.update(generators.told(self.recording, event))

    _generator_begins, _generator_ends = _seed_begins, _seed_ends

    def _frame(self, _: Event) -> Any:
        frame = self.recording.frame()
        return frame if frame is not None else sys._getframe(1)
