"""What if: a recorded step run again with one thing changed, shown only if it can be run again unchanged.

Unchanged means: the same loss, the same gradients and the same weights afterwards, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from loopwright.events.explained import WhatIf
from loopwright.explainer import values
from loopwright.explainer.replay import Again, Beginning
from loopwright.explainer.slices import NotReplayedError
from loopwright.observe import graph as graphs
from loopwright.report.formats import count, number

KEPT = 3
"""Steps whose losses are added up in "without .item()"."""


class Replays:
    """Notes the beginning of one turn of each loop and runs it again when it has ended."""

    def __init__(self, recording: Any):
        self.recording = recording
        self.beginnings: dict[int, Beginning] = {}
        self.done: set[int] = set()

    def statement(self, activation: Any, turn: Any, statement: Any) -> None:
        """The first statement of a turn's body is about to run."""
        record = turn.record
        if (turn.number < 2 or not (record.steps or record.backwards) or record.number in self.done
                or turn.loop is None or statement.heads is turn.loop
                or not activation.loops or activation.loops[-1] is not turn):  # fmt: skip
            return
        self.done.add(record.number)
        try:
            turn.start = self.beginnings[id(turn)] = Beginning(
                self.recording, activation.frame, turn
            )
        except NotReplayedError as reason:
            turn.not_replayed = str(reason)
        except Exception as error:  # noqa: BLE001  objects of the program that cannot be copied
            turn.not_replayed = (
                f"its beginning could not be copied ({type(error).__name__}: {error})"
            )

    def backward_ended(self, turn: Any, loss: float | None) -> None:
        """A backward pass of the program has run in the turn."""
        beginning = self.beginnings.get(id(turn))
        if beginning is not None:
            beginning.note_grads()
            beginning.loss = loss if beginning.loss is None else beginning.loss

    def turn_ended(self, turn: Any) -> None:
        """Ask everything about the turn."""
        beginning = self.beginnings.pop(id(turn), None)
        if beginning is None:
            return
        here = self.recording.observer.here
        busy, here.busy = here.busy, True
        try:
            again = Again(beginning, turn.everything())
            with again.restored():
                turn.whatifs = Questions(again, turn).ask()
        except NotReplayedError as reason:
            turn.not_replayed = str(reason)
        except Exception as error:  # noqa: BLE001  the program's own statements, out of their place
            turn.not_replayed = (
                f"run again, its statements failed ({type(error).__name__}: {error})"
            )
        finally:
            here.busy = busy
            turn.start = None


class Questions:
    """Every question about one step."""

    def __init__(self, again: Again, turn: Any):
        self.again = again
        self.one = again.beginning
        self.turn = turn
        self.lines = {
            kind: event.line for visit in turn.everything() for event in visit.events
            for kind in [event.kind]
        }  # fmt: skip
        self.facts = {
            event.kind: event.facts for visit in turn.everything() for event in visit.events
        }

    def ask(self) -> list[WhatIf]:
        """Run the step unchanged, then with each change; those that change nothing are left out."""
        self.unchanged()
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
            raise NotReplayedError("run again, it reaches no backward pass")
        if self.one.loss is not None and self.again.loss != self.one.loss:
            line = self.lines.get("loss") or self.lines.get("forward") or self.again.first_line
            raise NotReplayedError(
                f"run again unchanged, line {line} gives the loss {self.again.loss!r} instead of "
                f"{self.one.loss!r}:"
                " it reads something that is not restored"
            )
        if not _same(self.again.grads, self.one.seen_grads):
            raise NotReplayedError(
                f"run again unchanged, line {self.lines.get('backward', self.again.first_line)} "
                f"gives other gradients"
            )
        if not _same([p.detach() for p in self.one.parameters], ends):
            raise NotReplayedError(
                f"run again unchanged, line {self.lines.get('step', self.again.first_line)} gives "
                f"other weights"
            )
        self.loss = self.again.loss
        self.touched = self._touched()
        self.stepping = self._stepping()
        self.grad = self._norm()
        self.delta = self._delta()
        self.after = self._loss_now()

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

    def _delta(self) -> float:
        one = self.one
        with values.quiet():
            return values.together(
                [values.difference(one.parameters[at], one.contents[at]) for at in self.touched]
            )

    def _loss_now(self) -> float | None:
        """The loss of the same batch with the weights of now and the same draws."""
        self.again.draws()
        for parameter in self.one.parameters:
            parameter.grad = None
        self.again.run(to_loss=True)
        return self.again.loss

    def no_zero_grad(self) -> WhatIf | None:
        """The gradient that would have been."""
        if "zero_grad" not in self.facts or not self.facts["zero_grad"].get("had"):
            return None
        self.again.begin()
        owners = [*self.one.optimizers, *self.one.modules]
        for owner in owners:
            vars(owner)["zero_grad"] = lambda *_, **__: None
        try:
            self.again.run()
        finally:
            for owner in owners:
                vars(owner).pop("zero_grad", None)
        grad, delta = self._norm(), self._delta()
        if grad == self.grad:
            return None
        return WhatIf(
            f"without zero_grad (line {self.lines['zero_grad']})",
            f"backward adds to the old gradient: norm {number(grad)} instead of "
            f"{number(self.grad)}, and the step "
            f"moves by ‖Δp‖ = {number(delta)} instead of {number(self.delta)}.",
            {
                "grad": grad,
                "grad_unchanged": self.grad,
                "delta": delta,
                "delta_unchanged": self.delta,
            },
        )

    def rates(self) -> list[WhatIf | None]:
        """Half and twice the learning rate."""
        if "step" not in self.facts or self.after is None or not self.stepping:
            return []
        return [
            self._rate(0.5, "half the learning rate"),
            self._rate(2.0, "twice the learning rate"),
        ]

    def _rate(self, factor: float, name: str) -> WhatIf | None:
        self.again.begin()
        groups = [group for one in self.stepping for group in one.param_groups]
        kept = [group["lr"] for group in groups]
        try:
            for group in groups:
                group["lr"] = group["lr"] * factor
            self.again.run()
            delta, loss = self._delta(), self._loss_now()
        finally:
            for group, rate in zip(groups, kept, strict=True):
                group["lr"] = rate
        if loss is None or self.after is None or delta == self.delta:
            return None
        rate = float(kept[0]) * factor
        return WhatIf(
            name,
            f"With lr {number(rate)} the same batch has loss {number(loss)} after the step; as it "
            f"is, {number(self.after)}; "
            f"before it, {number(self.loss)}. ‖Δp‖ = {number(delta)} instead of {number(self.delta)}.",
            {
                "lr": rate,
                "loss_after": loss,
                "loss_after_unchanged": self.after,
                "loss_before": self.loss,
                "delta": delta,
                "delta_unchanged": self.delta,
            },
        )

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
            f"The same batch and weights give loss {number(loss)} instead of {number(self.loss)}"
            f"{_why_eval_differs(acting)}.",
            {"loss": loss, "loss_unchanged": self.loss},
        )

    def summed(self) -> WhatIf | None:
        """The loss summed instead of averaged."""
        facts = self.facts.get("loss", {})
        if facts.get("reduction") != "mean":
            return None
        self.again.begin()
        with _reduction("sum", str(facts["function"]), self.one):
            self.again.run()
        grad, loss, delta = self._norm(), self.again.loss, self._delta()
        if loss is None or loss == self.loss or not self.grad:
            return None
        return WhatIf(
            "the loss summed instead of averaged",
            f"The loss is {number(loss)} instead of {number(self.loss)}, the gradient's norm "
            f"{number(grad)} instead of "
            f"{number(self.grad)} (× {number(grad / self.grad)}), and the step moves by ‖Δp‖ = "
            f"{number(delta)} instead of "
            f"{number(self.delta)}.",
            {
                "loss": loss,
                "loss_unchanged": self.loss,
                "grad": grad,
                "grad_unchanged": self.grad,
                "delta": delta,
                "delta_unchanged": self.delta,
            },
        )

    def no_item(self) -> WhatIf | None:
        """How many graph nodes stay alive when the loss itself is added up."""
        if "item" not in self.facts:
            return None
        total: Any = 0.0
        alive: list[int] = []
        for _ in range(KEPT):
            self.again.begin()
            self.again.run()
            if self.again.root is None or self.again.root.grad_fn is None:
                return None
            total = total + self.again.root
            alive.append(sum(1 for _ in graphs.nodes(total.grad_fn)))
        self.again.root = None
        shown = ", ".join(count(one) for one in alive)
        return WhatIf(
            f"without .item() (line {self.lines['item']})",
            f"Adding up the loss itself gives the same number and keeps the graphs: {shown} nodes "
            f"alive after "
            f"{', '.join(map(str, range(1, KEPT + 1)))} steps; with `.item()` none.",
            {f"nodes_{index}": float(one) for index, one in enumerate(alive, start=1)},
        )


def _why_eval_differs(acting: list[Any]) -> str:
    """What of a model acts in another way in eval mode, as far as it is known."""
    kinds = {type(one).__name__ for one in acting}
    parts = []
    if any("Dropout" in one for one in kinds):
        parts.append("dropout is off")
    if any("BatchNorm" in one for one in kinds):
        parts.append("batch norm uses its running statistics")
    return f": {' and '.join(parts)}" if parts else ""


class _reduction:  # noqa: N801  a context
    """Every criterion, and the function itself, reduce in another way."""

    def __init__(self, how: str, function: str, one: Beginning):
        self.how, self.function = how, function
        places = [*one.space.values(), *list(one.globals.values()), *one.modules]
        owners: list[Any] = []
        for value in places:
            inner = getattr(value, "__dict__", {})
            owners += [value, *(inner.values() if isinstance(inner, dict) else ())]
        self.found = [o for o in owners if isinstance(o, torch.nn.modules.loss._Loss)]
        self.kept: list[tuple[Any, str]] = []
        self.original: Callable[..., Any] = getattr(torch.nn.functional, function)

    def __enter__(self) -> None:
        self.kept = [(one, one.reduction) for one in self.found]
        for one in self.found:
            one.reduction = self.how
        original, how = self.original, self.how

        def changed(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **{**kwargs, "reduction": how})

        setattr(torch.nn.functional, self.function, changed)

    def __exit__(self, *_: object) -> None:
        setattr(torch.nn.functional, self.function, self.original)
        for one, reduction in self.kept:
            one.reduction = reduction


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
