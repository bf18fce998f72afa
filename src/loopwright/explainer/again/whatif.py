"""What if: a recorded step run again with one thing changed, shown only if it can be run again unchanged.

Unchanged means: the same loss, the same gradients and the same weights afterwards, bit for bit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch

from loopwright.events.explained import WhatIf
from loopwright.explainer.again.changes import kept_gradients, other_rate, other_reduction
from loopwright.explainer.again.replay import Again, Beginning
from loopwright.explainer.again.slices import NotReplayedError, OtherwiseError
from loopwright.explainer.again.taken import living
from loopwright.explainer.effects import byhand, objects, values
from loopwright.explainer.follow.turns import DEEP
from loopwright.report.formats import apart, count, number

KEPT = 3
"""Steps whose losses are added up in "without .item()"."""


class Replays:
    """Notes the beginning of one turn of each loop and runs it again when it has ended."""

    def __init__(self, recording: Any):
        self.recording = recording
        self.beginnings: dict[int, Beginning] = {}
        self.done: set[int] = set()
        self.asked: set[int] = set()
        """Loops of which a turn was asked; one that made no step is asked about until one does."""

    def statement(self, activation: Any, statement: Any) -> None:
        """A statement is about to run: for a turn that has begun, the first one of its body."""
        for turn in activation.loops:
            if turn.entered or statement.heads is turn.loop:
                continue
            turn.entered = True
            main = self.recording.loops.get(turn.loop, turn.record)
            if (turn.mode == DEEP and turn.number >= 2 and (main.steps or main.backwards)
                    and main.number not in self.done):  # fmt: skip
                self._begin(activation.frame, turn, main.number)

    def _begin(self, frame: Any, turn: Any, number: int) -> None:
        self.done.add(number)
        try:
            turn.start = self.beginnings[id(turn)] = Beginning(self.recording, frame, turn, number)
        except NotReplayedError as reason:
            turn.not_replayed = str(reason)
        except Exception as error:  # noqa: BLE001  objects of the program that cannot be copied
            turn.not_replayed = (
                f"its beginning could not be copied ({type(error).__name__}: {error})"
            )

    def backward_begins(self, turn: Any, roots: list[torch.Tensor]) -> None:
        """A backward pass of the program is about to run in the turn, which is part of those around it."""
        for beginning in self._around(turn):
            beginning.taken.losses(roots)

    def reads(self, turn: Any, visit: Any, tensor: torch.Tensor, name: str, site: Any) -> None:
        """The program is about to read a tensor as a number."""
        for beginning in self._around(turn):
            statement = visit.statement if visit is not None else None
            beginning.taken.read(tensor, name, site, statement)

    def _around(self, turn: Any) -> Iterator[Beginning]:
        while turn is not None:
            if id(turn) in self.beginnings:
                yield self.beginnings[id(turn)]
            turn = turn.parent

    def backward_ended(self, turn: Any, loss: float | None) -> None:
        """It has run."""
        for beginning in self._around(turn):
            beginning.note_grads()
            beginning.loss = loss if beginning.loss is None else beginning.loss

    def turn_ended(self, turn: Any) -> None:
        """Ask everything about the turn."""
        beginning = self.beginnings.pop(id(turn), None)
        if beginning is None:
            if turn.loop is None and turn.record.steps and not turn.not_replayed:
                turn.not_replayed = _without_loop(turn)
            return
        if not (turn.count("step") or byhand.moves(turn)):
            self.done.discard(beginning.number)
            learns = turn.count("backward") or turn.count("grad")
            if not learns or beginning.number in self.asked:
                return
        self.asked.add(beginning.number)
        here = self.recording.observer.here
        busy, here.busy = here.busy, True
        try:
            turn.whatifs = _asked(beginning, turn)
        except NotReplayedError as reason:
            turn.not_replayed = str(reason)
        except Exception as error:  # noqa: BLE001  the program's own statements, out of their place
            turn.not_replayed = (
                f"run again, its statements failed ({type(error).__name__}: {error})"
            )
        finally:
            here.busy = busy
            turn.start = None


def _without_loop(turn: Any) -> str:
    """Why a step that no loop of the program's own makes is not run again."""
    lines = [visit.statement.line for visit in turn.visits for event in visit.events
             if event.kind == "step"]  # fmt: skip
    line = f"line {lines[-1]}" if lines else "the program"
    if turn.record.by_library:
        return (
            f"{line} runs the loop inside a library, and statements of a library are not run again"
        )
    return f"{line} steps outside of any loop, and what is run again is the body of a loop"


def _asked(beginning: Beginning, turn: Any) -> list[WhatIf]:
    """Every question, with the statements that the step is seen to need, else with all before its end.

    Few are better: a step that prints or logs can be run again without that.
    """
    few = Again(beginning, turn.everything())
    try:
        with few.restored():
            return Questions(few, turn).ask()
    except Exception as reason:
        if isinstance(reason, NotReplayedError) and not isinstance(reason, OtherwiseError):
            raise
        every = Again(beginning, turn.everything(), whole=True)
        if every.size == few.size and not every.left_out:
            raise
    try:
        with every.restored():
            return Questions(every, turn).ask()
    except OtherwiseError as reason:
        left_out = "; ".join(every.left_out)
        raise NotReplayedError(f"{reason}; {left_out}" if left_out else str(reason)) from None


class Questions:
    """Every question about one step."""

    def __init__(self, again: Again, turn: Any):
        self.again = again
        self.one = again.beginning
        self.turn = turn
        visits = turn.everything()
        events = [
            event for visit in visits for event in visit.events if not event.facts.get("by_hand")
        ]
        self.order: list[str] = []
        self.clears: dict[int, str] = {}
        """Lines that clear gradients, and by what."""
        for visit in visits:
            self.order += [event.kind for event in visit.events]
            if byhand.cleared(visit):
                self.order.append("cleared")
                self.clears[visit.statement.line] = "by hand"
        self.clears |= {event.line: "zero_grad" for event in events
                        if event.kind == "zero_grad" and event.facts.get("had")}  # fmt: skip
        self.found: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for event in events:
            self.found[event.kind].append((event.line, event.facts))
        self.lines = {kind: every[-1][0] for kind, every in self.found.items()}
        self.facts = {kind: every[-1][1] for kind, every in self.found.items()}

    def ask(self) -> list[WhatIf]:
        """Run the step unchanged, then with each change; those that change nothing are left out."""
        self.unchanged()
        self.turn.left_out = []
        found = [
            self.no_zero_grad(),
            *self.rates(),
            self.eval_mode(),
            self.summed(),
            self.no_item(),
        ]
        return [one for one in found if one is not None]

    def unchanged(self) -> None:
        """The same bits, or the reason why not."""
        with values.quiet():
            ends = [p.detach().clone() for p in self.one.parameters]
        self.again.begin()
        self.again.run()
        if self.again.loss is None:
            raise OtherwiseError(
                f"line {self.lines['grad']} returns gradients, and what is asked is of those in `.grad`"
                if "grad" in self.lines and "backward" not in self.lines
                else "run again, it reaches no backward pass"
            )
        if self.one.loss is not None and self.again.loss != self.one.loss:
            line = self.lines.get("loss") or self.lines.get("forward") or self.again.first_line
            raise OtherwiseError(
                f"run again unchanged, line {line} gives the loss {self.again.loss!r} instead of "
                f"{self.one.loss!r}:"
                " it reads something that is not restored"
            )
        if not _same(self.again.grads, self.one.seen_grads):
            raise OtherwiseError(
                f"run again unchanged, line {self.lines.get('backward', self.again.first_line)} "
                f"gives other gradients"
            )
        learning = self._learning()
        now = [self.one.parameters[at].detach() for at in learning]
        if not _same(now, [ends[at] for at in learning]):
            raise OtherwiseError(
                f"run again unchanged, line {self.lines.get('step', self.again.first_line)} gives "
                f"other weights"
            )
        self.loss = self.again.loss
        self.touched = self._touched()
        self.stepping = self._stepping()
        self.grad = self._norm()
        self.delta = self._delta()
        self.after = self._loss_now()

    def _learning(self) -> list[int]:
        """Parameters that gradients or an optimizer move; an average of them follows after the step."""
        one = self.one
        held = {id(p) for optimizer in one.optimizers for group in optimizer.param_groups
                for p in group["params"]}  # fmt: skip
        return [at for at, parameter in enumerate(one.parameters)
                if id(parameter) in held or one.seen_grads[at] is not None]  # fmt: skip

    def _touched(self) -> list[int]:
        """Which parameters the step moved, or gave a gradient."""
        one = self.one
        ends = [p.detach() for p in one.parameters]
        count = len(ends)
        return [
            at
            for at in range(count)
            if not _same(ends[at : at + 1], one.contents[at : at + 1])
            or not _same(self.again.grads[at : at + 1], one.grads[at : at + 1])
        ]

    def _stepping(self) -> list[Any]:
        """Optimizers of parameters that moved."""
        touched = {id(self.one.parameters[at]) for at in self.touched}
        return [
            optimizer
            for optimizer in self.one.optimizers
            if any(id(p) in touched for group in optimizer.param_groups for p in group["params"])
        ]

    def _norm(self) -> float:
        """Of the gradients that the step wrote."""
        found = [self.again.grads[at] for at in self.touched]
        with values.quiet():
            return values.together([values.norm(one) for one in found if one is not None])

    def _delta(self, start: list[Any] | None = None) -> float:
        """How far the step moved, from ``start`` or else from the turn's beginning."""
        one = self.one
        start = one.contents if start is None else start
        with values.quiet():
            return values.together(
                [values.difference(one.parameters[at], start[at]) for at in self.touched]
            )

    def _loss_now(self) -> float | None:
        """The loss of the same batch with the weights of now and the same draws."""
        self.again.rewind()
        for parameter in self.one.parameters:
            parameter.grad = None
        self.again.run(to_loss=True)
        return self.again.loss

    def no_zero_grad(self) -> WhatIf | None:
        """The gradient that would have been; of the same batch once more where the step clears at its end."""
        if not self.clears:
            return None
        first = min(at for at, kind in enumerate(self.order) if kind in ("zero_grad", "cleared"))
        at_its_end = first > self._last("backward")
        grad, delta = self._cleared_or_not(once_more=at_its_end, without=True)
        before, moved = self.grad, self.delta
        if at_its_end:
            before, moved = self._cleared_or_not(once_more=True, without=False)
        if grad == before:
            return None
        lines = sorted(self.clears)
        what = "zero_grad" if set(self.clears.values()) == {"zero_grad"} else "clearing .grad"
        norms, deltas = apart(grad, before), apart(delta, moved)
        return WhatIf(
            f"without {what} ({'line' if len(lines) == 1 else 'lines'} {', '.join(map(str, lines))})",
            f"{'With the same batch once more, backward' if at_its_end else 'Backward'} adds to the old "
            f"gradient: norm {norms[0]} instead of {norms[1]}, and the step moves by ‖Δp‖ = {deltas[0]} "
            f"instead of {deltas[1]}.",
            {"grad": grad, "grad_unchanged": before, "delta": delta, "delta_unchanged": moved},
        )

    def _cleared_or_not(self, *, once_more: bool, without: bool) -> tuple[float, float]:
        """Norms of the last gradients and of the last step."""
        self.again.begin()
        with kept_gradients(self.one.parameters if without else []):
            self.again.run()
            start = self.one.contents
            if once_more:
                with values.quiet():
                    start = [tensor.detach().clone() for tensor in self.one.parameters]
                self.again.rewind()
                self.again.run()
        return self._norm(), self._delta(start)

    def _last(self, kind: str) -> int:
        """Where the last event of a kind stands among those of the step; -1 where none does."""
        return max((at for at, one in enumerate(self.order) if one == kind), default=-1)

    def rates(self) -> list[WhatIf | None]:
        """Half and twice the learning rate."""
        if "step" not in self.facts or self.after is None or not self.stepping:
            if "step" not in self.facts and self.delta:
                self.turn.left_out.append("another learning rate, as no optimizer makes the step")
            return []
        return [
            self._rate(0.5, "half the learning rate"),
            self._rate(2.0, "twice the learning rate"),
        ]

    def _rate(self, factor: float, name: str) -> WhatIf | None:
        self.again.begin()
        with other_rate(factor, self.stepping) as rates:
            self.again.run()
        delta, loss = self._delta(), self._loss_now()
        if loss is None or self.after is None or delta == self.delta or not rates:
            return None
        rate = rates[0] * factor
        told = apart(loss, self.after, self.loss)
        moved = apart(delta, self.delta)
        return WhatIf(
            name,
            f"With lr {number(rate)} the same batch has loss {told[0]} after the step; as it is, {told[1]}; "
            f"before it, {told[2]}. ‖Δp‖ = {moved[0]} instead of {moved[1]}.",
            {"lr": rate, "loss_after": loss, "loss_after_unchanged": self.after, "loss_before": self.loss,
             "delta": delta, "delta_unchanged": self.delta},
        )  # fmt: skip

    def eval_mode(self) -> WhatIf | None:
        """The loss with dropout off and running statistics."""
        acting = [one for module in self.one.modules for one in module.modules() if one.training]
        self.again.begin()
        try:
            for one in acting:
                one.training = False
            self.again.run(to_loss=True)
            loss = self.again.loss
        finally:
            for one in acting:
                one.training = True
        if loss is None or loss == self.loss:
            return None
        return WhatIf(
            "in eval mode",
            f"The same batch and weights give loss {' instead of '.join(apart(loss, self.loss))}"
            f"{_why_eval_differs(acting)}.",
            {"loss": loss, "loss_unchanged": self.loss},
        )

    def summed(self) -> WhatIf | None:
        """Every loss summed that is averaged."""
        losses = [facts for _, facts in self.found["loss"]]
        averaged = {str(one["function"]) for one in losses if one.get("reduction") == "mean"}
        if not averaged:
            if not losses:
                self.turn.left_out.append(
                    "the loss summed instead of averaged, as no loss function of torch's averages it"
                )
            return None
        self.again.begin()
        with other_reduction("sum", averaged, self.one):
            self.again.run()
        grad, loss, delta = self._norm(), self.again.loss, self._delta()
        if loss is None or loss == self.loss or not self.grad:
            return None
        moved = apart(delta, self.delta)
        step = f"the step moves by ‖Δp‖ = {moved[0]} instead of {moved[1]}"
        if math.isclose(delta, self.delta, rel_tol=1e-5):
            step = f"the step moves as far, ‖Δp‖ = {number(delta)}"
        several = f"each of {count(len(losses))} losses" if len(losses) > 1 else "the loss"
        return WhatIf(
            f"{several} summed instead of averaged",
            f"The loss is {number(loss)} instead of {number(self.loss)}, the gradient's norm {number(grad)} "
            f"instead of {number(self.grad)} (× {number(grad / self.grad)}), and {step}.",
            {"loss": loss, "loss_unchanged": self.loss, "grad": grad, "grad_unchanged": self.grad,
             "delta": delta, "delta_unchanged": self.delta},
        )  # fmt: skip

    def no_item(self) -> WhatIf | None:
        """How many graph nodes stay alive when the loss itself is added up."""
        reads = self.one.taken.chosen()
        if not reads:
            reason = self.one.taken.why_none()
            self.turn.left_out += [f"without `.item()`, as {reason}"] if reason else []
            return None
        kept: set[Any] = set()
        alive: list[int] = []
        for steps in range(1, KEPT + 1):
            self.again.begin()
            self.again.run()
            if len(self.again.roots) != len(self.one.taken.places):
                return None
            kept.update(living(reads, self.again.roots))
            # Each is added to the sum so far, which is one node more.
            alive.append(len(kept) + steps * sum(1 + one.above for one in reads))
        self.again.roots = []
        shown = ", ".join(count(one) for one in alive)
        name = f"`{reads[-1].name}`" if reads[-1].name else "the loss"
        return WhatIf(
            f"without {reads[-1].call} (line {reads[-1].line})",
            f"Adding up {name} itself gives the same number and keeps the graphs: {shown} nodes "
            f"alive after "
            f"{', '.join(map(str, range(1, KEPT + 1)))} steps; with `{reads[-1].call}` none.",
            {f"nodes_{index}": float(one) for index, one in enumerate(alive, start=1)},
        )


def _why_eval_differs(acting: list[Any]) -> str:
    """What of a model acts in another way in eval mode, as far as it is known."""
    parts = []
    if any(map(objects.drops, acting)):
        parts.append("dropout is off")
    if any(map(objects.is_batch_norm, acting)):
        parts.append("batch norm uses its running statistics")
    return f": {' and '.join(parts)}" if parts else ""


def _same(first: list[Any], second: list[Any]) -> bool:
    if len(first) != len(second):
        return False
    for one, other in zip(first, second, strict=True):
        if (one is None) != (other is None):
            return False
        if one is not None and not _bits(one, other):
            return False
    return True


def _bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    with values.quiet():
        if one.layout != torch.strided:
            one, other = one.to_dense(), other.to_dense()
        return bool(torch.equal(one, other)) or bool(
            torch.equal(one.isnan(), other.isnan())
            and torch.equal(one.nan_to_num(), other.nan_to_num())
        )
