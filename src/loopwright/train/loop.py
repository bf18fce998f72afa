"""The loop: turns, epochs, what happens between two bodies, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from loopwright.errors import DataError, StateError
from loopwright.events import EpochRow, Outcome
from loopwright.train.callsite import CallSite, user_line, where
from loopwright.train.data import draws
from loopwright.train.data.batches import count_samples, tokens_of
from loopwright.train.data.loaders import kind_of
from loopwright.train.data.source import Source
from loopwright.train.display.progress import Progress, going_forward
from loopwright.train.leaving import frame_that_left, left_without_exception
from loopwright.train.limits import Limits
from loopwright.train.state.boundary import Boundary
from loopwright.train.step import Step, unseen
from loopwright.train.update.window import Window
from loopwright.train.values import Values

if TYPE_CHECKING:
    from loopwright.train.run import Run

HOST_EVERY = 0.5
"""Seconds between two visits of values to the host: at most twice a second."""

_NOTHING, _LATER = object(), object()


class Loop:
    """Yields a ``Step`` for every batch until a limit is reached; has ``len()`` where it is known.

    Made by ``run.loop``; iterate over it once.
    """

    def __init__(self, run: Run, source: Source, limits: Limits, name: str):
        self.run = run
        self.source = source
        self.limits = limits
        self.name = name
        self.current: Step | None = None
        self.turn = self.turns_before = 0  # the latter were trained by an earlier process
        self.base = 0  # turns of the run's earlier loops
        self.epoch = 0
        self.samples = 0
        self.tokens = 0
        self.skipped = 0
        self.updates = 0
        self.seconds = 0.0
        self.phase_fetch = self.phase_transfer = 0.0
        self.phase_forward = self.phase_backward = self.phase_step = self.phase_item = 0.0
        self.phase_evaluate = 0.0
        self.restored: dict[str, Any] | None = None
        self._entered = False
        self._ahead: Any = _NOTHING
        self._epoch_seconds = 0.0
        self.ahead: Callable[[Loop], bool] | None = None  # makes turns that the body need not see
        self.values = Values()
        self.boundary: Boundary
        self.facts: dict[str, Any] = {}
        self.outcome: Outcome | None = None
        self._since, self._next_visit = (0.0, 0), 0.0
        self._on_cpu = run.device.type == "cpu"
        self._look_ahead = source.length is None or (not self._on_cpu and source.quiet)
        if self._look_ahead:
            source.look_ahead()
        if not self._on_cpu and source.quiet:
            source.send_chunks(run.transfer.rows)
        self._watched = source.length is not None
        self._bar = True
        self.progress: Progress | None = None

    # -- what a person iterates over -----------------------------------------------------------

    def __len__(self) -> int:
        turns = self.limits.turns(self.source.length)
        if turns is None:
            raise TypeError("the number of turns of this loop is not known beforehand")
        return turns

    def __iter__(self) -> Iterator[Step]:
        if self._entered:
            raise StateError(
                f"loop {self.name!r} was entered before",
                slug="loop-entered-twice",
                where=user_line(),
                hint="call run.loop(…) again for another loop",
            )
        self._entered = True
        # tqdm(run.loop(…)) draws the user's own bar; two would fight over the line.
        self._bar = "tqdm" not in sys._getframe(1).f_globals.get("__name__", "")
        # A fresh generator, never self: only the for statement holds it, so a break closes it.
        return self._turns()

    def _turns(self) -> Iterator[Step]:
        run = self.run
        if not run.lifecycle.begin(self):
            return
        how = "limit"
        region = left = None
        step: Any = None  # no epoch is without a turn
        self._resume_clock()
        try:
            while not self.is_complete():
                self._begin_epoch()
                while True:
                    self.boundary.note()
                    if self.ahead is not None and self.ahead(self):
                        step = unseen(self)
                        self._look_around(step)
                        if run.stopped is not None:
                            break
                        continue
                    sent = self._next_batch()
                    if sent is _NOTHING:
                        break
                    step = self._make_step(sent)
                    self.boundary.note_body()
                    self.boundary.hold_if_it_validates(step)
                    run.nonfinite.recall.calls.clear()
                    self.current = step
                    if (region := run.precision.region()) is not None:
                        region.__enter__()
                    step._began = perf_counter()
                    yield step
                    self.phase_forward += perf_counter() - step._began
                    self.current = None
                    if region is not None:
                        region.__exit__(None, None, None)
                        region = None
                    self._finish_turn(step)
                    # At an epoch's end the loader is asked once more, as a for statement would: it
                    # ends its workers then, and one with more batches than len() says is found.
                    if not step.ends_epoch and (step.ends_run or run.stopped is not None):
                        break
                self.end_epoch(step)
                self.boundary.epoch_ended()
                self.boundary.note()
                run.lifecycle.checkpoint_if_due(self, step)
                if step.ends_run or run.stopped is not None:
                    how = "limit" if run.stopped is None else "stop"
                    break
            run.lifecycle.end(self, how)
        except GeneratorExit:
            if run.active is self:  # else the process's end has ended it
                left = frame_that_left(sys._getframe(1))
                how = "break" if left_without_exception(left) else "exception"
                run.lifecycle.leave(self, how, left)
            raise
        except BaseException as error:
            run.lifecycle.fail(self, error)
            raise
        finally:
            self.current = None
            if region is not None:
                region.__exit__(None, None, None)
            run.lifecycle.release(self)
            if left is not None and how == "break" and run.signals.pending is not None:
                run.signals.end_in(left)  # it came in the turn that was left
        if run.signals.pending is not None:  # it came in the very last turn
            run.signals.end()

    def is_complete(self) -> bool:
        """Return whether there is nothing left to do: a resumed loop may have been at its end."""
        return self.limits.reached(self.epoch, self.turn, self.samples, self.tokens)

    # -- epochs --------------------------------------------------------------------------------

    def _begin_epoch(self) -> None:
        run, source, restored = self.run, self.source, self.restored
        self.restored = None
        started = perf_counter()
        self._ahead = _NOTHING
        source.set_epoch(self.epoch)
        if restored is None:
            source.start_epoch()
            self._look()
        else:
            source.resume_epoch(
                run.device, restored["random"], before_restore=self._look, count=self._count_shown
            )
        if source.position == 0:
            self._epoch_seconds = 0.0
            run.fire("epoch_begin", epoch=self.epoch)
        if self.progress is not None:
            self.progress.epoch(self.epoch, self._epoch_turns(), source.position)
        self.phase_fetch += perf_counter() - started

    def _look(self) -> None:
        """Fetch the epoch's first batch, or the next where it goes on, if the loop looks ahead."""
        if self._look_ahead:
            self._ahead = self._fetch()

    def _count_shown(self, count: int) -> Iterable[int]:
        return going_forward(count, shown=self.run.progress)

    def _epoch_turns(self) -> int | None:
        length, steps = self.source.length, self.limits.steps
        if length is None or steps is None:
            return length
        return min(length, steps - self.turn + self.source.position)

    def end_epoch(self, step: Step) -> None:
        """Close an epoch after its last turn: its row, the moment, the schedulers."""
        self.visit_host()
        if step.ends_epoch:
            self.source.epoch_ended()
        else:
            self.source.end_inside()
        row = self._epoch_row()
        self.run.history.epoch(row)
        self.run.history.put_down(seldom=True)
        if self.progress is not None:
            self.progress.epoch_line(row)
        if not step.ends_epoch:  # the run ends inside an epoch: its row, and no epoch's end
            return
        self.epoch += 1
        self.values.clear()
        self.run.lifecycle.after_epoch(row)

    def _epoch_row(self) -> EpochRow:
        turn, seconds = self.base + self.turn, self._epoch_seconds
        return EpochRow(self.epoch, turn, seconds, self.values.row(), self.name)

    # -- turns ---------------------------------------------------------------------------------

    def _fetch(self) -> Any:
        started = perf_counter()
        signals = self.run.signals
        signals.waits_for_data = True
        try:
            batch = self.source.fetch()
        except StopIteration:
            return _NOTHING
        finally:
            signals.waits_for_data = False
            now = perf_counter()
            self.phase_fetch += now - started
        if self._on_cpu:
            return batch
        sent = self.run.transfer.send(batch)
        self.phase_transfer += perf_counter() - now
        return sent

    def _after(self) -> Any:
        """Return the batch after the one that comes now, ``_LATER`` where fetching it draws."""
        return _LATER if self.source.draws_next else self._fetch()

    def _next_batch(self) -> Any:
        """Return the next batch, ``_NOTHING`` at the epoch's end."""
        if self._look_ahead:
            sent = self._fetch() if self._ahead is _LATER else self._ahead
            if sent is not _NOTHING:
                watched, self._watched = self._watched, True
                self._ahead = self._after() if watched else draws.watched(self.run, self._after)
        else:
            sent = self._fetch()
        length, position = self.source.length, self.source.position
        if sent is _NOTHING and position == 0:
            raise DataError(
                f"the {kind_of(self.source.loader)} gave no batch", slug="empty-loader",
                hint="look at what it yields: an epoch needs at least one batch",
            )  # fmt: skip
        if length is not None and (sent is _NOTHING) != (position == length):
            more = "ended after" if sent is _NOTHING else "went on after"
            raise DataError(
                f"the {kind_of(self.source.loader)} has len() {length} and {more} "
                f"{position} batches",
                slug="loader-length",
                hint="make __len__ of the loader or its sampler true, or pass an iterable "
                "without one",
            )
        return sent

    def _make_step(self, sent: Any) -> Step:
        """Return the turn of a batch that was fetched."""
        batch = sent if self._on_cpu else self.run.transfer.receive(sent)
        limits = self.limits
        self.source.hand_out()
        if self.source.length is not None:
            ends_epoch = self.source.position == self.source.length
        else:
            ends_epoch = self._ahead is _NOTHING
        self._count(count_samples(batch) or 1, 0 if limits.tokens is None else tokens_of(batch))
        ends_run = limits.reached(
            self.epoch + ends_epoch, self.turn + 1, self.samples, self.tokens
        ) or (limits.minutes is not None and self._time_is_up(60 * limits.minutes))
        run = self.run
        updates = (
            run.accumulate == 1 or ends_epoch or ends_run
            or run.stepper.most_turns() + 1 >= run.accumulate
        )  # fmt: skip
        return Step(
            self, batch, self.turn, self.epoch,
            updates=updates, ends_epoch=ends_epoch, ends_run=ends_run,
        )  # fmt: skip

    def _count(self, samples: int, tokens: int) -> None:
        self.samples += samples
        self.tokens += tokens

    def _time_is_up(self, seconds: float) -> bool:
        return self.elapsed() >= seconds

    def record_loss(self, step: Step, loss: torch.Tensor, weight: Any, site: CallSite) -> bool:
        """Note the loss of a backward; False where it is not finite and the turn goes on without it."""
        value: Any
        if not self._on_cpu:
            value = loss.detach()
        else:
            value = loss.item()
            if value - value != 0.0 and self.run.precision.scaler is None:
                what = f"the loss of turn {step.index + 1} (epoch {step.epoch + 1})"
                self.run.nonfinite.loss(value, what, site)
                return False
        if step._loss is None:
            step._loss, step._log_weight = value, weight
        else:
            step._loss = step._loss + value
        if step._only is not None and len(self.run.stepper.windows) > 1:
            self.log_values({f"loss/{step._only.name}": value})
        return True

    def update(self, only: Window | None, metric: Any) -> bool:
        """Apply what is pending; returns whether an optimizer stepped."""
        stepped = self.run.stepper.update(only, turn=self.turn, metric=metric)
        self.updated(stepped)
        return stepped

    def updated(self, stepped: bool) -> None:
        """Count an update and tell who wants to know."""
        if stepped:
            self.updates += 1
            if self.run.moments.wanted("update"):
                self.run.fire("update")

    def skipped_here(self, step: Step) -> None:
        """Note a batch that was skipped on purpose; its loss is not recorded."""
        step._loss = None

    def _finish_turn(self, step: Step) -> None:
        run = self.run
        stepper = run.stepper
        pending = stepper.pending()
        for window in pending:
            if not window.agreed:
                raise StateError(
                    f"turn {step.index + 1} ended with gradients that nobody used",
                    slug="forgotten-update", where=where(window.site),
                    hint="step.update() after step.backward(loss), or step.skip()",
                )  # fmt: skip
        if pending:
            if step.ends_epoch or step.ends_run or run.stopped is not None:
                # The turn that would have closed the window was skipped: close it for the rest.
                self.update(None, None)
        elif (left := stepper.guard.left_gradients()) is not None:
            raise StateError(
                f"turn {step.index + 1} ended, and {left} holds a gradient that step.backward() "
                "did not put there",
                slug="plain-backward", where=user_line(),
                hint="step.backward(loss) instead of loss.backward(), and step.update() after it",
            )  # fmt: skip
        self.count_turn(step)
        self._look_around(step)

    def turns_made(
        self, losses: list[float], weight: Any, lrs: list[float], norms: list[float], samples: int
    ) -> None:
        """Count turns that no body saw, of so many samples each; their updates are made."""
        self._count(len(losses) * samples, 0)
        self.run.history.turns(self.base + self.turn + 1, losses, weight, lrs, norms)
        self.turn += len(losses)
        self.updates += len(losses)

    def coming(self) -> list[Any]:
        """Return batches to come that are there already, on the device."""
        ahead = self._ahead
        ready = [] if ahead is _LATER else self.source.ready()
        return [ahead[0], *ready] if self._look_ahead and ready else ready

    def pass_over(self, count: int) -> None:
        """Take so many of the batches that are ``coming``: they were trained on."""
        if not self._look_ahead:
            self.source.pass_over(count)
            return
        self.source.hand_out()
        self.source.pass_over(count - 1)
        self._ahead = self._after()

    def _look_around(self, step: Step) -> None:
        """See, after a turn, whether something is due: a visit to the host, a checkpoint, an end."""
        run, now = self.run, perf_counter()
        if now >= self._next_visit:
            self.visit_host()
            run.history.put_down()
            self.boundary.settle()
        elif self.boundary.is_new:
            self.boundary.settle()
        if not step.ends_epoch:
            run.lifecycle.checkpoint_if_due(self, step)
        if run.signals.pending is not None and not step.ends_run:
            run.lifecycle.interrupt(self, step)

    def count_turn(self, step: Step) -> None:
        """Count a turn whose body has ended, or was left by break or return."""
        run, stepper = self.run, self.run.stepper
        run.averaging.settle()
        if step._loss is None:
            self.skipped += 1
        self.turn += 1
        # The learning rate that the turn's update used, before its schedule stepped.
        lr = run.lr() if stepper.lr is None else stepper.lr
        turn = self.base + self.turn
        run.history.turn(turn, step._loss, step._log_weight, lr, stepper.grad_norm)
        stepper.grad_norm = stepper.lr = None

    # -- values --------------------------------------------------------------------------------

    def log_values(self, values: dict[str, Any]) -> None:
        """Keep values of this turn for the next visit to the host."""
        self.values.log(self.base + self.turn + 1, values)

    def latest(self, name: str) -> float | None:
        """Return what this epoch has of a logged value, its mean or the latest; None if it was not logged."""
        self.values.settle(self.epoch, self.run.history)
        return self.values.latest(name)

    def visit_host(self) -> None:
        """Bring losses and logged values to the host, the history, the bar and the loggers."""
        now = perf_counter()
        self._next_visit = now + HOST_EVERY
        self.run.nonfinite.review()
        loss = self.flush()
        seconds, samples = self._since
        self._since = (self._trained_seconds(), self.samples)
        values = ({} if loss is None else {"loss": loss}) | self.values.last()
        if self._since[0] > seconds:
            values["samples_per_s"] = (self.samples - samples) / (self._since[0] - seconds)
        if self.progress is not None:
            self.progress.show(self.source.position, values)
        if loss is not None and self.run.moments.wanted("log"):
            values["lr"] = self.run.lr()
            if self.run.history.grad_norm is not None:
                values["grad_norm"] = self.run.history.grad_norm
            self.run.fire("log", values=values, epoch=self.epoch)
        self.phase_item += perf_counter() - now

    def flush(self) -> float | None:
        """Bring losses and logged values to the host and the history; returns the losses' mean."""
        self._settle_clock(perf_counter())
        losses, weights = self.run.history.flush(self.name, self.seconds)
        loss = self.values.add_losses(losses, weights)
        self.values.settle(self.epoch, self.run.history)
        return loss

    # -- time ----------------------------------------------------------------------------------

    def _resume_clock(self) -> None:
        self._clock = perf_counter()
        self._since = (self._trained_seconds(), self.samples)
        self._next_visit = self._clock + HOST_EVERY

    def _settle_clock(self, now: float) -> None:
        self.seconds += now - self._clock
        self._epoch_seconds += now - self._clock
        self._clock = now

    def _trained_seconds(self) -> float:
        """Return the loop's seconds without those of evaluations, in which no sample is trained on."""
        return self.seconds - self.phase_evaluate

    def elapsed(self) -> float:
        """Return the loop's seconds so far, earlier processes included."""
        return self.seconds + perf_counter() - self._clock

    # -- state ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return counts, position and the epoch's sums; call ``visit_host`` first."""
        return {
            "turn": self.turn, "epoch": self.epoch, "samples": self.samples,
            "tokens": self.tokens, "skipped": self.skipped, "updates": self.updates,
            "seconds": self.seconds, "epoch_seconds": self._epoch_seconds,
            **self.values.state_dict(), "source": self.source.state_dict(),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned."""
        for name in ("turn", "epoch", "samples", "tokens", "skipped", "updates", "seconds"):
            setattr(self, name, state[name])
        self.turns_before = self.turn
        self._epoch_seconds = state["epoch_seconds"]
        self.values.load_state_dict(state)
        self.source.load_state_dict(state["source"])
