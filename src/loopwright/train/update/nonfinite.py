"""A loss or a gradient that is nan or inf: the optimizer never steps on it, and the message says where from.

On a CPU a value is looked at as soon as it is there. On an accelerator looking means waiting, so

* optimizers that take ``found_inf`` (torch's fused ones) skip such an update on the device, and the host
  learns of it at its next visit, at most half a second later;
* for all others one flag is read per update, after everything but the step is under way.
  ``nonfinite_every=K`` reads it at each K-th update only; an update that was done on nan is then undone by
  going back to the last checkpoint.

Nothing is saved between such an update and its discovery.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

from loopwright.errors import NonFiniteError, UsageError
from loopwright.train.callsite import CallSite, where
from loopwright.train.folder.history import to_host
from loopwright.train.state import saving
from loopwright.train.update.recall import Recall, is_finite

if TYPE_CHECKING:
    from loopwright.train.loop import Loop
    from loopwright.train.run import Run

POLICIES = ("stop", "skip", "rewind")
SKIPS_IN_A_ROW = 50
REWINDS_TO_ONE = 3
"""A run that comes to nan from one checkpoint again and again will come there once more."""


class LeftOut(Exception):  # noqa: N818 - not an error: the run goes on without an update
    """A gradient was not finite, and its update is left out."""


class NonFinite:
    """What a run does about values that are not finite.

    Args:
        run: whose.
        policy: ``"stop"``: an error; ``"skip"``: the update is left out; ``"rewind"``: weights,
            optimizers, schedules and averages go back to the newest checkpoint, the data goes on.
        every: updates between two looks, where looking means waiting.
    """

    def __init__(self, run: Run, policy: str, every: int):
        if policy not in POLICIES:
            raise UsageError(
                f"nonfinite is 'stop', 'skip' or 'rewind', got {policy!r}",
                slug="unknown-nonfinite",
            )
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise UsageError(
                f"nonfinite_every is a whole number from 1, got {every!r}",
                slug="nonfinite-every",
            )
        if every > 1 and policy == "skip":
            raise UsageError(
                f"nonfinite='skip' with nonfinite_every={every}: what was not looked at cannot be skipped",
                slug="nonfinite-every", hint="nonfinite='rewind'",
            )  # fmt: skip
        self.policy = policy
        self.every = every
        self.recall = Recall()
        self.skipped = 0
        self.rewinds = 0
        self.raised = False
        self._run = run
        self._in_a_row = 0
        self._updates = 0
        self._waiting: list[
            tuple[int, Tensor, bool]
        ] = []  # turn, flag, whether the update was done
        self._same: tuple[str, int] = ("", 0)

    # -- seen at once ----------------------------------------------------------------------------

    def loss(self, value: float, what: str, site: CallSite | None) -> None:
        """Decide about a loss that is not finite; returns where the turn goes on without it."""
        self._decide(
            f"{what} is {value}; the optimizer has not stepped", site, "nonfinite-loss",
            "a lower lr, clip=1.0, or look for log(0), 0/0 and overflow in the forward pass",
        )  # fmt: skip

    def gradients(self, names: list[str], turn: int, site: CallSite | None) -> None:
        """Decide about gradients that are not finite; returns where the update is left out."""
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        self._decide(
            f"the gradients of turn {turn + 1} are not finite, in {', '.join(names[:3])}{more}; "
            "the optimizer has not stepped", site, "nonfinite-gradient",
            "a lower lr, clip=1.0, or the operation in the forward pass that overflows",
        )  # fmt: skip

    def _decide(self, what: str, site: CallSite | None, slug: str, hint: str) -> None:
        loop = self._run.active
        assert loop is not None
        self._in_a_row += 1
        if self.policy == "stop":
            bad_input = self._bad_input(loop)
            if bad_input is not None:
                hint = "mend the data: nothing in a network gets rid of it again"
            details = [] if bad_input is None else [bad_input]
            self._stop(what, site, slug, hint, details=[*details, *self._details(loop)])
        if self._in_a_row > SKIPS_IN_A_ROW:
            self._stop(f"{what}, as in the {SKIPS_IN_A_ROW} updates before", site, slug, hint)
        loop.boundary.buffers.put_back()
        if self.policy == "rewind":
            self._rewind(what, site, slug, hint)
        else:
            self.skipped += 1
            self._run.note(f"{what}: the update was left out")

    def _stop(
        self,
        what: str,
        site: CallSite | None,
        slug: str,
        hint: str,
        details: list[str] | None = None,
    ) -> None:
        self.raised = True
        lines = [what, *(f"    {line}" for line in [*(details or []), *self._last_good()])]
        raise NonFiniteError("\n".join(lines), slug=slug, where=where(site), hint=hint)

    @staticmethod
    def _bad_input(loop: Loop) -> str | None:
        """Say which input is not finite, or that the batch is empty."""
        from loopwright.train.mishaps.describe import first_nonfinite_input

        step = loop.current
        return None if step is None else first_nonfinite_input(step.batch, loop.source.indices)

    def _details(self, loop: Loop) -> list[str]:
        """Say which module, and which samples."""
        found = self.recall.first_nonfinite(loop.boundary)
        lines = [] if found is None else [found.text]
        indices = loop.source.indices
        if not isinstance(indices, (list, tuple)):
            return lines
        rows = found.rows if found is not None else []
        if rows and max(rows) < len(indices) and len(rows) < len(indices):
            one = "sample" if len(rows) == 1 else "samples"
            lines.append(f"{one} {_listed([indices[row] for row in rows])} of the data set")
        else:
            lines.append(f"samples of the batch: {_listed(list(indices))}")
        return lines

    def _last_good(self) -> list[str]:
        files, loop = self._run.files, self._run.active
        if files is None or (loop is not None and not self._run.lifecycle.trained(loop)):
            return []
        name = files.latest_name()
        return [] if name is None else [f"the last good checkpoint is {name}"]

    def _rewind(self, what: str, site: CallSite | None, slug: str, hint: str) -> None:
        files = self._run.files
        assert files is not None, "Run() refuses 'rewind' without a folder"
        name = files.latest_name() or ""
        times = self._same[1] + 1 if self._same[0] == name else 1
        self._same = (name, times)
        if times > REWINDS_TO_ONE:
            self._stop(f"{what}, {times} times since checkpoint {name}", site, slug, hint)
        saving.restore_weights(self._run, files.newest())
        self._waiting = []  # those updates are undone, too
        self._run.stepper.discard()
        self.rewinds += 1
        text = f"{what}: back to checkpoint {name}, the data goes on"
        self._run.note(text)
        self._run.line(text)

    def was_finite(self) -> None:
        """Note an update that was done."""
        self._in_a_row = 0

    # -- seen later ------------------------------------------------------------------------------

    def wants_to_look(self) -> bool:
        """Whether the flag of the coming update is to be read before it."""
        self._updates += 1
        return self._updates % self.every == 0

    def remember(self, turn: int, suspect: Tensor, *, done: bool) -> None:
        """Keep a device's number that is finite if all was well, for the next ``review``.

        Args:
            turn: the loop's current one.
            suspect: 0-d.
            done: the update was done in any case.
        """
        self._waiting.append((turn, suspect.detach(), done))

    def review(self) -> None:
        """Read what was remembered, and act on it; one wait for the device."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        values: list[Any] = to_host([suspect for _, suspect, _ in waiting])
        bad = [
            (turn, done) for (turn, _, done), value in zip(waiting, values, strict=True)
            if not math.isfinite(value)
        ]  # fmt: skip
        if not bad:
            return
        self._in_a_row = 0
        turn, done = bad[0]
        self._in_a_row = len(bad) - 1
        if not done and self.policy == "skip":
            self.skipped += len(bad)
            self._run.note(
                f"the loss or the gradients of turn {turn + 1} were not finite; the update was left out "
                f"on the device{f', and {len(bad) - 1} more' if len(bad) > 1 else ''}"
            )
            return
        what = f"the loss or the gradients of turn {turn + 1} were not finite"
        what += "; the optimizer has stepped on it" if done else "; the optimizer has not stepped"
        hint = "a lower lr, clip=1.0; nonfinite_every=1 without a fused optimizer names the module"
        if self.policy == "rewind":
            self._rewind(what, None, "nonfinite-gradient", hint)
        else:
            self._stop(what, None, "nonfinite-gradient", hint)

    # -- state -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {
            "skipped": self.skipped, "rewinds": self.rewinds, "in_a_row": self._in_a_row,
            "updates": self._updates, "same": self._same,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned."""
        self.skipped, self.rewinds = state["skipped"], state["rewinds"]
        self._in_a_row, self._updates, self._same = (
            state["in_a_row"], state["updates"], state["same"]
        )  # fmt: skip
        self._waiting = []


def _listed(indices: list[Any]) -> str:
    shown = ", ".join(map(str, indices[:8]))
    return f"{shown} and {len(indices) - 8} more" if len(indices) > 8 else shown


def parameters_are_finite(run: Run) -> bool:
    """Whether all weights of a run's models are finite (reads every one)."""
    return all(is_finite(list(model.parameters())) for model in run.models.values())
