"""What ``step.backward``, ``step.gradients`` and ``step.update`` do to tensors.

The order of an update is: unscale, normalise, measure, clip, optimizer, scheduler, clear, average.
Nothing here knows of loaders, epochs or files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from loopwright.errors import StateError, UsageError
from loopwright.train.callsite import CallSite, user_line, where
from loopwright.train.update import found_inf, gradients
from loopwright.train.update.backward import backward_of
from loopwright.train.update.guard import Guard
from loopwright.train.update.nonfinite import LeftOut, NonFinite
from loopwright.train.update.precision import Precision, power_of_two_near
from loopwright.train.update.window import Window


class Stepper:
    """Gradients in, updates out, for all optimizers of a run.

    Args:
        optimizers: by name; a single one is called ``"optimizer"``.
        names: parameter -> its name, for messages.
        after_step: called with the windows whose optimizers have stepped (schedulers, averages).
        nonfinite: what is done about gradients that are not finite.
    """

    def __init__(
        self,
        optimizers: dict[str, torch.optim.Optimizer],
        *,
        precision: Precision,
        clip: gradients.Clip | None,
        names: Callable[[], dict[Tensor, str]],
        after_step: Callable[[Sequence[Window], Any], None],
        nonfinite: NonFinite,
    ):
        self.windows = {name: Window(name, optimizer) for name, optimizer in optimizers.items()}
        self.precision = precision
        self.clip = clip
        self.guard = Guard(optimizers)
        self.nonfinite = nonfinite
        self.reads_at_once = True  # the values are on the host, or reading them is cheap
        self.grad_norm: float | Tensor | None = None
        self.lr: float | None = None  # of the first optimizer, as the last update used it
        self._all = tuple(self.windows.values())
        self.order = gradients.ModelOrder(self._all, names)
        self._names = names
        self._after_step = after_step
        self.untouched = True  # since the turn's beginning: what it had then can be told
        self.unit: Any = None
        self._losses: Tensor | None = None  # of the update so far, where they are not read at once
        self._plain_turn = -1  # a turn whose losses need no factor: nothing else was pending
        self._fp32 = precision.dtype is None
        self._scaled = precision.scaler is not None

    # -- windows -----------------------------------------------------------------------------

    def window_of(self, optimizer: Any) -> Window:
        """Return the window of an optimizer that was given as an object or by its name."""
        for window in self._all:
            if optimizer is window.optimizer or optimizer == window.name:
                return window
        raise UsageError(
            f"that optimizer is not one of this run's ({', '.join(self.windows)})",
            slug="unknown-optimizer",
            where=user_line(),
            hint="pass it to lw.Run(optimizer={'name': optimizer, …}) and use run.optimizer['name']",
        )

    def pending(self, only: Window | None = None) -> list[Window]:
        """Return the windows that hold gradients, of all or of ``only`` one."""
        return [window for window in (self._all if only is None else (only,)) if window.turns]

    def most_turns(self) -> int:
        """Return the micro-batches of the fullest window."""
        return max(window.turns for window in self._all)

    def close_fresh_windows(self, turn: int) -> None:
        """Close the windows that were opened in this turn; their gradients stay where they are."""
        for window in self._all:
            if window.last_turn == turn:
                window.clear()

    def discard(self) -> None:
        """Throw the pending gradients away and close every window."""
        for window in self._all:
            self.untouched = self.untouched and not window.turns
            if window.turns or window.has_gradients():
                self._clear(window)
            self.precision.forget_unscaled(window.optimizer)
        self.unit = None
        self._plain_turn = -1

    # -- backward ----------------------------------------------------------------------------

    def backward(
        self,
        loss: Tensor,
        weight: float | Tensor,
        *,
        turn: int,
        closes: bool,
        only: Window | None,
        site: CallSite,
        retain_graph: bool = False,
        counted: bool = False,  # noqa: ARG002
    ) -> None:
        """Run backward of the (weighted, scaled) loss and enter it in the windows.

        Args:
            loss: 0-d, attached to a graph.
            weight: samples or tokens that the loss is the mean of.
            closes: the window ends with this turn, if it has no other, so no factor is needed.
            turn: the current turn's index.
            only: the one optimizer whose parameters may receive gradients.
            site: the user's line, for messages.
            retain_graph: as torch's.
            counted: the weight is the batch's number of samples, which all ranks know of each other.
        """
        windows = self._all if only is None else (only,)
        pending = self.pending()
        first = None
        for window in pending:
            if window.last_turn != turn:
                self.untouched = False
            elif first is None and (only is None or window is only):
                first = window
            if window.finished and (only is None or window is only):
                raise StateError(
                    "step.backward() after step.gradients(): it would add to finished gradients",
                    slug="gradients-finished", where=where(site),
                    hint="all losses of the turn first, then step.gradients()",
                )  # fmt: skip
        if closes and not pending:
            self._plain_turn = turn
        if first is not None:  # another loss of the same turn
            factor = first.factor
            if first.weight is not weight and not _equal(first.weight, weight):
                raise UsageError(
                    f"two losses of one turn have different weights ({first.weight}, {weight})",
                    slug="two-weights-in-a-turn",
                    where=where(site),
                    hint="give the same weight to both, or add the losses up and call backward once",
                )
        else:
            factor = self._factor(weight, plain=turn == self._plain_turn)
        if factor is not None:
            loss = loss * factor
        if not self.reads_at_once:
            one = loss.detach()
            self._losses = one if self._losses is None else self._losses + one
        if self._scaled:
            loss = self.precision.scale(loss)
        inputs = None
        if only is not None and len(self._all) > 1:
            inputs = [p for p in only.parameters() if p.requires_grad]
        run_backward = backward_of(loss, retain_graph=retain_graph, inputs=inputs)
        if self._fp32:
            run_backward()
        else:
            with self.precision.off():
                run_backward()
        for window in windows:
            if window.last_turn == turn and window.turns:
                window.agreed = False
                window.site = site
            else:
                window.add(turn, factor, weight, site)

    def _factor(self, weight: float | Tensor, *, plain: bool) -> Any:
        """Return what a turn's losses are multiplied by; None where the update has no other turn."""
        if plain:
            return None
        if not isinstance(weight, Tensor) and not weight:
            return 0.0  # an empty micro-batch says nothing of the window's magnitude
        if self.unit is None:
            self.unit = power_of_two_near(weight)
        return weight / self.unit

    # -- update ------------------------------------------------------------------------------

    def finish(self, windows: Sequence[Window]) -> None:
        """Unscale and normalise the gradients of ``windows`` in place, once per window."""
        self.untouched = False
        for window in windows:
            if window.finished:
                continue
            if self._scaled:
                self.precision.unscale(window.optimizer)
            if window.total is not None:
                if not isinstance(window.total, Tensor) and not window.total:
                    raise UsageError(
                        "the weights of this update's losses add up to 0",
                        slug="weight-out-of-range", where=where(window.site),
                        hint="step.skip() where there is nothing to learn from",
                    )  # fmt: skip
                gradients.scale(gradients.of(window.parameters()), 1.0 / window.total)
            window.finished = True

    def update(self, only: Window | None, *, turn: int, metric: Any = None) -> bool:
        """Apply the gradients; returns whether an optimizer stepped (fp16 may skip)."""
        pending = self.pending(only)
        windows = [w for w in pending if w.has_gradients()]
        self.untouched = False
        if not windows and not any(window.updates for window in pending):
            raise StateError(
                "step.update(): the loss reached no parameter of the optimizer",
                slug="no-gradient", where=where(pending[0].site),
                hint="the optimizer holds other parameters than the model that made the loss",
            )  # fmt: skip
        if len(windows) < len(pending):
            for window in pending:
                if window not in windows:  # as torch's optimizers do: nothing to step on, no step
                    window.clear()
        stepped = False
        if windows and self._fp32:
            stepped = self._apply(windows, turn, metric)
        elif windows:
            with self.precision.off():
                stepped = self._apply(windows, turn, metric)
            self.precision.forget_weights()
        if only is None or not self.pending():
            self.unit = None
            self._plain_turn = -1
            if self._scaled:
                self.precision.settle(turn)
        return stepped

    def _apply(self, windows: Sequence[Window], turn: int, metric: Any) -> bool:
        self.finish(windows)
        whole: Sequence[Window] = windows
        if self._scaled:
            whole = [w for w in windows if not self.precision.found_nonfinite(w.optimizer)]
        flag = on_cpu = None
        held: dict[Window, gradients.Groups] = {}
        if whole:
            held = {window: gradients.by_group(window.optimizer) for window in whole}
            grads = gradients.local(self.order.gradients(held.values()))
            alike = gradients.are_alike(grads)
            on_cpu = grads[0].dtype if alike and grads[0].is_cpu else None
            try:
                flag = self._measure_and_clip(grads, alike, whole, turn)
            except LeftOut:
                for window in windows:
                    self._clear(window)
                return False
        for window in windows:
            if flag is None and not self._scaled and self.guard.is_unheard(window.optimizer):
                self.guard.step_unheard(window.optimizer, held[window], on_cpu)
            else:
                self._step(window.optimizer, flag)
            self._clear(window)
        for window in whole:
            window.updates += 1
        if whole:
            self._after_step(whole, metric)
        if self._scaled:
            self.precision.note(len(whole) < len(windows))
        return bool(whole)

    def _step(self, optimizer: torch.optim.Optimizer, flag: Tensor | None) -> None:
        with self.guard.ours():
            if self.precision.scaler is not None:
                self.precision.scaler.step(optimizer)
            else:
                found_inf.step(optimizer, flag)

    def _measure_and_clip(
        self, grads: list[Tensor], alike: bool, windows: Sequence[Window], turn: int
    ) -> Tensor | None:
        """Measure, look whether all is finite, clip; returns a flag for optimizers that skip by one.

        Raises:
            LeftOut: it is not, and the run goes on without this update.
            NonFiniteError: it is not, and the run stops.
        """
        self.lr = float(self._all[0].optimizer.param_groups[0]["lr"])
        total = self._norm(grads, alike)
        flag = None
        if self.reads_at_once:
            value = total.item()
            if value - value != 0.0:
                total, value = self._overflowed(grads, windows, turn)
            self.grad_norm = value
            self.nonfinite.was_finite()
        else:
            self.grad_norm = total
            if not self._scaled:
                flag, total = self._looked_at_later(grads, windows, turn, total)
        if self.clip is not None:
            self.clip_by(grads, total)
        return flag

    def _norm(self, grads: list[Tensor], alike: bool) -> Tensor:
        return gradients.norm(grads, alike)

    def _looked_at_later(
        self, grads: list[Tensor], windows: Sequence[Window], turn: int, total: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        losses, self._losses = self._losses, None
        # A loss that is not finite makes the sum nan, a finite one changes nothing.
        suspect = total
        if losses is not None:
            losses = losses if losses.device == total.device else losses.to(total.device)
            suspect = torch.add(total, losses, alpha=0)  # one kernel: 0 * nan and 0 * inf are nan
        if all(found_inf.is_taken(window.optimizer) for window in windows):
            self.nonfinite.remember(turn, suspect, done=False)
            return (~torch.isfinite(suspect)).float(), total
        if not self.nonfinite.wants_to_look():
            self.nonfinite.remember(turn, suspect, done=True)
            return None, total
        if math.isfinite(suspect.item()):
            self.nonfinite.was_finite()
            return None, total
        if math.isfinite(total.item()):
            self.nonfinite.loss(math.nan, f"the loss of turn {turn + 1}", windows[0].site)
            raise LeftOut
        return None, self._overflowed(grads, windows, turn)[0]

    def clip_by(self, grads: list[Tensor], total: Tensor) -> None:
        """Clip gradients whose norm is ``total``, where the run clips."""
        if self.clip is None:
            return
        if self.clip.norm is not None:
            gradients.clip_norm(grads, total, self.clip.norm)
        else:
            assert self.clip.value is not None
            gradients.clip_value(grads, self.clip.value)

    def for_all(self, loss: Tensor) -> Tensor:
        """Return the loss whose gradients an evaluation of ``minimize`` computes."""
        return loss

    def of_all(self, loss: Tensor, window: Window) -> Tensor:  # noqa: ARG002
        """Return the loss that the optimizer is told, after its gradients were computed."""
        return loss

    def replayed(self, window: Window, norm: float | Tensor) -> None:
        """Do what follows an update that a captured step has made."""
        self.untouched = False
        self.lr = float(window.optimizer.param_groups[0]["lr"])
        self.grad_norm = norm
        self.nonfinite.was_finite()
        window.updates += 1
        self.precision.forget_weights()
        self._after_step([window], None)

    def adopt(self, window: Window, turn: int, site: CallSite) -> None:
        """Enter gradients that are there already as this turn's."""
        window.add(turn, None, 1, site)

    def _overflowed(
        self, grads: list[Tensor], windows: Sequence[Window], turn: int
    ) -> tuple[Tensor, float]:
        names = self._names()
        bad = [
            names.get(p, "a parameter")
            for window in windows
            for p in window.parameters()
            if p.grad is not None and not torch.isfinite(gradients.stored(p.grad)).all()
        ]
        if bad:
            self.nonfinite.gradients(bad, turn, windows[0].site)
            raise LeftOut
        exact = gradients.exact_norm(grads)  # finite values whose squares overflow
        return torch.tensor(exact, dtype=torch.float64), exact

    def _clear(self, window: Window) -> None:
        for group in window.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        window.clear()


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and bool(torch.equal(a, b))
    return a == b
