"""One turn of the loop, in the user's hands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from loopwright.errors import StateError, UsageError
from loopwright.train.callsite import caller, user_line, where
from loopwright.train.data.batches import count_samples
from loopwright.train.update import gradients
from loopwright.train.update.closures import minimize
from loopwright.train.update.loss import check_loss
from loopwright.train.update.window import Window

if TYPE_CHECKING:
    from loopwright.train.loop import Loop


class Step:
    """One turn: its batch, and what may be done with the gradients.

    Valid until the loop's next turn; after that every method is an error.

    Attributes:
        batch: what the loader gave, on the run's device.
        index: turns before this one in the loop, counted from 0 and over all epochs.
        epoch: counted from 0.
        updates: ``update()`` will step the optimizer at this turn (an accumulation window closes).
        ends_epoch: this is the epoch's last turn.
        ends_run: this is the loop's last turn, as far as that can be known before it.
    """

    __slots__ = (
        "_began", "_called", "_left_out", "_log_weight", "_loop", "_loss", "_only",
        "batch", "ends_epoch", "ends_run", "epoch", "index", "updates",
    )  # fmt: skip

    def __init__(
        self, loop: Loop, batch: Any, index: int, epoch: int,
        *, updates: bool, ends_epoch: bool, ends_run: bool,
    ):  # fmt: skip
        self.batch = batch
        self.index = index
        self.epoch = epoch
        self.updates = updates
        self.ends_epoch = ends_epoch
        self.ends_run = ends_run
        self._loop = loop
        self._only: Window | None = None
        self._loss: Any = None
        self._log_weight: Any = 1
        self._left_out = False  # a loss was not finite, and the run goes on without it
        self._called = False  # update(), skip() or minimize() was called
        self._began = 0.0

    def __repr__(self) -> str:
        return f"<step {self.index}, epoch {self.epoch}>"

    def backward(
        self, loss: Tensor, weight: float | Tensor | None = None, *, retain_graph: bool = False
    ) -> None:
        """Add the gradients of ``loss`` to the parameters, and record the loss.

        Under fp16 the loss is scaled; inside an accumulation window it is weighted, so that the
        update sees the mean over all samples of the window.

        Args:
            loss: one number, the mean over ``weight`` samples or tokens; attached to a graph.
            weight: what the loss is the mean of: a number, or a 0-d tensor (no sync). By default
                the first dimension of the batch's first tensor, or 1.
            retain_graph: keep the graph for another loss of this turn that shares it.

        Raises:
            StateError: this step is over.
            UsageError: ``loss`` is not one number or has no graph, or two weights in one turn.
            NonFiniteError: the loss is nan or inf (seen here on a CPU, at the update elsewhere).
        """
        loop = self._loop
        if loop.current is not self:
            self._stale("backward")
        site = caller()
        check_loss(loss, "the loss given to step.backward()", site)
        started = perf_counter()
        loop.phase_forward += started - self._began
        counted = weight is None
        if weight is None:
            weight = count_samples(self.batch)
            if weight is None:
                weight = 1
                loop.run.note("the batches hold no tensor with a first dimension: weight is 1")
        elif not isinstance(weight, Tensor) and not weight >= 0:
            raise UsageError(
                f"a loss's weight is 0 or more, got {weight!r}",
                slug="weight-out-of-range", where=where(site),
            )  # fmt: skip
        if not loop.record_loss(self, loss, weight, site):
            self._left_out = True
            self._began = perf_counter()
            return
        only = self._only
        loop.run.stepper.backward(
            loss, weight, turn=self.index, closes=self.updates,
            only=only, site=site, retain_graph=retain_graph, counted=counted,
        )  # fmt: skip
        self._called = False
        self._began = perf_counter()
        loop.phase_backward += self._began - started

    def gradients(self) -> list[Tensor]:
        """Finish the gradients in place, for your own clipping, noise or logging, and return them.

        They are then unscaled and normalised, as the optimizer will see them; ``update()`` does not
        repeat it. Changes in place are what the optimizer steps on.

        Raises:
            StateError: nothing is pending, or the accumulation window is still open.
        """
        loop = self._loop
        if loop.current is not self:
            self._stale("gradients")
        if not self.updates:
            raise StateError(
                "step.gradients() inside an accumulation window: they are not complete",
                slug="window-open", where=user_line(), hint="if step.updates: …",
            )  # fmt: skip
        stepper = loop.run.stepper
        windows = [self._only] if self._only is not None else stepper.pending()
        if not any(window.turns for window in windows):
            raise StateError(
                "step.gradients() before step.backward(loss): there are none",
                slug="no-gradient", where=user_line(),
            )  # fmt: skip
        stepper.finish(windows)
        return [g for w in windows for g in gradients.of(w.parameters())]

    def update(self, metric: float | Tensor | None = None) -> bool:
        """Step the optimizer, the scheduler and the average, and clear the gradients.

        Does nothing inside an accumulation window (``step.updates`` says so beforehand).

        Args:
            metric: for a scheduler that looks at one.

        Returns:
            Whether an optimizer stepped; fp16 may have skipped it.

        Raises:
            StateError: this step is over, or there are no gradients.
            NonFiniteError: a gradient is nan or inf; nothing was stepped.
        """
        loop = self._loop
        if loop.current is not self:
            self._stale("update")
        started = perf_counter()
        loop.phase_forward += started - self._began
        stepper = loop.run.stepper
        only = self._only
        pending = stepper.pending(only)
        if not pending:
            if self._left_out:
                return False
            self._nothing_to_update()
        self._called = True
        for window in pending:
            window.agreed = True
        stepped = False
        if self.updates:
            stepped = loop.update(only, metric)
        self._began = perf_counter()
        loop.phase_step += self._began - started
        return stepped

    def skip(self) -> None:
        """Throw away the gradients that are pending, of this turn and of an open window."""
        if self._loop.current is not self:
            self._stale("skip")
        self._loop.run.stepper.discard()
        self._loop.skipped_here(self)
        self._called = True

    @contextmanager
    def only(self, optimizer: Any) -> Iterator[None]:
        """Inside, ``backward`` fills, and ``update`` steps, the parameters of one optimizer alone.

        Args:
            optimizer: one of the run's, or its name.

        Example::

            with step.only("discriminator"):
                step.backward(loss_of_discriminator)
                step.update()
        """
        if self._loop.current is not self:
            self._stale("only")
        before = self._only
        self._only = self._loop.run.stepper.window_of(optimizer)
        try:
            yield
        finally:
            self._only = before

    def minimize(self, fn: Callable[[], Tensor], optimizer: Any = None) -> Tensor:
        """Let the optimizer evaluate ``fn`` as often as it likes (LBFGS, SAM), as one update.

        Args:
            fn: computes and returns the loss; calls no backward.
            optimizer: one of several, or its name.

        Returns:
            The loss of the first evaluation, detached; nan where ``nonfinite="rewind"`` went back.
        """
        loop = self._loop
        if loop.current is not self:
            self._stale("minimize")
        site = caller()
        stepper = loop.run.stepper
        if optimizer is None and self._only is None and len(stepper.windows) > 1:
            raise UsageError(
                f"step.minimize(fn) with {len(stepper.windows)} optimizers: which one?",
                slug="which-optimizer", where=where(site),
                hint=f"step.minimize(fn, {next(iter(stepper.windows))!r})",
            )  # fmt: skip
        window = self._only if optimizer is None else stepper.window_of(optimizer)
        if window is None:
            window = next(iter(stepper.windows.values()))
        loss = minimize(stepper, fn, window, turn=self.index, site=site, device=loop.run.device)
        self._called = True
        if loss is None:
            return torch.full((), float("nan"), device=loop.run.device)
        loop.record_loss(self, loss, count_samples(self.batch) or 1, site)
        loop.updated(True)
        return loss

    def log(self, **values: Any) -> None:
        """Record values: numbers, 0-d tensors, or anything with ``compute()``; never waits.

        Logged at several turns of an epoch, a value is averaged over them; of a value that is logged only
        where the turn has run ``run.evaluate``, the epoch has the latest.
        """
        if self._loop.current is not self:
            self._stale("log")
        self._loop.log_values(values)

    def _stale(self, what: str) -> None:
        loop = self._loop
        now = "the loop is over" if loop.current is None else f"the loop is at {loop.current!r}"
        raise StateError(
            f"step.{what}() of {self!r}, but {now}",
            slug="stale-step", where=user_line(),
            hint="use the step that the loop gives in this turn",
        )  # fmt: skip

    def _nothing_to_update(self) -> None:
        left = self._loop.run.stepper.guard.left_gradients()
        frame = sys._getframe(2)
        site = (frame.f_code, frame.f_lasti)
        if left is not None:
            raise StateError(
                f"step.update(): {left} holds a gradient that step.backward() did not put there",
                slug="plain-backward", where=where(site),
                hint="step.backward(loss) instead of loss.backward()",
            )  # fmt: skip
        raise StateError(
            "step.update() has no gradients to apply",
            slug="update-before-backward", where=where(site),
            hint="step.backward(loss) first, then step.update()",
        )  # fmt: skip


def unseen(loop: Loop) -> Step:
    """Return the last of the turns that no body saw: neither its epoch's last nor the loop's."""
    return Step(
        loop, None, loop.turn - 1, loop.epoch, updates=True, ends_epoch=False, ends_run=False
    )
