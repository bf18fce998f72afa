"""The first rank's run folder, seen from every rank: one writes, all decide alike on what stands there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.checkpoint.shards import Shards
from loopwright.checkpoint.weights import load_weights_file
from loopwright.errors import DiskError
from loopwright.events import CheckpointRow, Classification, Outcome
from loopwright.train.folder.history import History
from loopwright.train.folder.writing import RunFolder
from loopwright.train.ranks.shards import ShardWriter
from loopwright.train.ranks.states import scattered

if TYPE_CHECKING:
    from loopwright.train.loop import Loop
    from loopwright.train.ranks.parts import OverRanks
    from loopwright.train.run import Run


class FolderOverRanks(RunFolder):
    """A run's folder; on all ranks but the first nothing is touched.

    Collective are: making it, ``open``, ``begin``, ``newest``, ``load``, ``read_best``. What an exception
    may call is not.
    """

    def __init__(self, run: Run, path: Path, resume: str, allowed: tuple[str, ...]):
        parts: OverRanks = run.parts  # type: ignore[assignment]
        self._world = parts.world
        self._parts = parts
        self._latest: str | None = None
        self._shards = ShardWriter(self._world, parts.writers)
        self._begins = False

        def look() -> bool:
            super(FolderOverRanks, self).__init__(run, path, resume, allowed)
            return self.there

        there = self._world.first_does(look)
        if not self._world.is_first:
            self.path, self.allowed, self.there = path, allowed, there
            self._run = run
            self._begun = False
            self._store = None

    def open(self) -> None:
        """Take the folder; every rank takes over what an earlier process found out."""
        run = self._run

        def take() -> dict[str, Any]:
            super(FolderOverRanks, self).open()
            return {
                "outcome": asdict(run.outcome), "best": run.best, "concluded": run.concluded,
                "totals": run.totals, "phases": run.phases, "notes": run.notes, "samples": run.samples,
                "latest": super(FolderOverRanks, self).latest_name(),
            }  # fmt: skip

        known = self._world.first_does(take)
        self._latest = known["latest"]
        if self._world.is_first:
            return
        run.outcome, run.concluded = Outcome(**known["outcome"]), known["concluded"]
        run.best.update(known["best"])
        run.totals.update(known["totals"])
        run.phases.update(known["phases"])
        run.notes.extend(known["notes"])
        run.samples.extend(known["samples"])

    def history(self) -> History:
        """Return the history; only the first rank's has a file."""
        return super().history() if self._world.is_first else History()

    def begin(self) -> None:
        """Make the folder on the first rank."""
        self._world.first_does(super().begin)
        self._begun = True

    def undo_begin(self) -> None:
        """Take away what the first rank has made."""
        if self._world.is_first:
            super().undo_begin()

    def write_summary(self, summary: Any) -> None:
        """Write it, on the first rank."""
        if self._world.is_first:
            super().write_summary(summary)

    def save(
        self, state: Any, loop: Loop, reason: str, *, at: tuple[int, int] | None = None,
        ended: bool = False, background: bool = True, shards: Shards | None = None,
    ) -> None:  # fmt: skip
        """Hand a state to the store on the first rank, and let each write its part of what is sharded."""
        self._latest = self.checkpoint_name(loop, ended, None if at is None else at[0])
        state, parts, size = self._parts.split_state(state)
        if parts:
            shards = self._shards.begin(parts, size)
        if self._world.is_first:
            super().save(
                state, loop, reason, at=at, ended=ended, background=background, shards=shards
            )
        elif not background:
            self._shards.wait()

    def latest_name(self) -> str | None:
        """Return the name of the newest checkpoint."""
        return super().latest_name() if self._world.is_first else self._latest

    def protect(self, name: str) -> None:
        """Never delete this checkpoint."""
        if self._world.is_first:
            super().protect(name)

    def newest(self) -> Any:
        """Return the newest sound checkpoint's state, each rank its own; None where there is none."""
        return self._read(super().newest)

    def load(self, name: str) -> Any:
        """Return one checkpoint's state, each rank its own."""
        return self._read(lambda: super(FolderOverRanks, self).load(name))

    def _read(self, read: Any) -> Any:
        found: list[Any] = [None]

        def do() -> None:
            found[0] = read()

        self._world.first_does(do)
        state = scattered(found[0], self._world)
        return None if state is None else self._parts.parted_state(self._run, state)

    def rows(self) -> list[CheckpointRow]:
        """Return what is saved, oldest first; nothing on other ranks."""
        return super().rows() if self._world.is_first else []

    def write_best(self, weights: dict[str, Any]) -> None:
        """Write ``best.safetensors``, on the first rank."""
        if self._world.is_first:
            super().write_best(weights)

    def read_best(self) -> dict[str, Any] | None:
        """Return the best weights on every rank; None where there are none."""
        path = self.path / "best.safetensors"
        there = self._world.first_does(path.exists)
        if not there:
            return None
        weights = load_weights_file(path, follow=False)[0] if self._world.is_first else None
        return self._world.firsts(weights)

    def add_classification(self, found: Classification) -> None:
        """Keep a confusion matrix, on the first rank."""
        if self._world.is_first:
            super().add_classification(found)

    def finish(self, *, weights: bool = True) -> None:
        """Write the final weights, how it ended, and the report, on the first rank."""
        if self._world.is_first:
            super().finish(weights=weights)
        elif weights and self._parts.shards and self._begun:
            self._run.weights(averaged=True)  # which takes all ranks
            if self._run.ema is not None:
                self._run.weights(averaged=False)

    def rescue(self, error: DiskError) -> None:
        """Write the final weights where the first rank alone has all of them."""
        if self._world.is_first and not self._parts.shards:
            super().rescue(error)

    def write_outcome(self) -> None:
        """Write ``outcome.json``, on the first rank."""
        if self._world.is_first:
            super().write_outcome()

    def write_report(self) -> None:
        """Write ``report.html``, on the first rank."""
        if self._world.is_first:
            super().write_report()

    def failed(self, outcome: Outcome) -> None:
        """Note how a run failed, on the first rank."""
        if self._world.is_first:
            super().failed(outcome)
        else:
            self._run.outcome = outcome

    def close(self) -> None:
        """Give the folder up."""
        if self._world.is_first:
            super().close()
        self._shards.wait()
