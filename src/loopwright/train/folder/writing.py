"""One run's folder, held by this process: what is written into it, and when."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import sys
import zlib
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from loopwright.checkpoint import disk, size_of
from loopwright.checkpoint.lock import LOCK, RunLock
from loopwright.checkpoint.shards import Shards
from loopwright.checkpoint.store import Held, Store
from loopwright.checkpoint.weights import load_weights_file, save_weights
from loopwright.errors import CheckpointError, DiskError, LoopwrightError, UsageError
from loopwright.events import CheckpointRow, Classification, Outcome, PhaseTime, RunRecord
from loopwright.train.folder import reading, source_files
from loopwright.train.folder.history import History, read, strict
from loopwright.train.state import identity, saving

if TYPE_CHECKING:
    from loopwright.train.loop import Loop
    from loopwright.train.run import Run


def _are_finite(labels: frozenset[str], tensors: dict[str, Tensor]) -> bool:
    """Whether the tensors of a checkpoint that are parameters are finite."""
    return all(
        bool(torch.isfinite(tensor).all())
        for name, tensor in tensors.items()
        if name.partition(" ")[2] in labels and (tensor.is_floating_point() or tensor.is_complex())
    )


_OF_A_START = (".lock", ".tmp-run.json")
"""What a start that was killed before ``run.json`` leaves; it does not make a folder somebody else's."""


class RunFolder:
    """Writes what a run leaves behind; made at the first loop, so that a failed start leaves nothing.

    Args:
        run: whose folder it is.
        path: where; need not exist.
        resume: see ``Run``.
        allowed: names of settings that may differ from the run that is there.
    """

    def __init__(self, run: Run, path: Path, resume: str, allowed: tuple[str, ...]):
        self.path = path
        self.allowed = allowed
        self._run = run
        self._lock: RunLock | None = None
        self._store: Store | None = None
        self._made: list[Path] = []
        self._mine = False
        self._best: dict[str, str] = {}  # metric -> checkpoint of its best value
        self._aside: Path | None = None
        self._replaces = False
        self._begun = self._room_checked = False
        self._classifications: list[Classification] = []
        self._summary: Any = None
        self._sources = source_files.hashes((run.recipe or {}).get("file"))
        self._environment_then: dict[str, Any] | None = None
        reading.check_can_write(path)
        self.there = (path / "run.json").exists()
        if not self.there:
            self._check_empty(resume)
            return
        if resume == "never":
            self._replaces, self.there = True, False
            return
        reading.read_run(path)  # refuses a newer version's, and what is no run's
        asked = reading.read_json(path / "run.json")
        identity.refuse_if_different(asked["identity"], run.identity, str(path), allowed)
        self._environment_then = asked["environment"]
        source_files.warn_if_changed(asked.get("sources"), self._sources)
        self._summary = asked.get("model")

    @property
    def begun(self) -> bool:
        """Whether this process has written into the folder."""
        return self._begun

    def open(self) -> None:
        """Take the folder, where there is one, and what stands in it; refused while another has it."""
        if self._replaces:
            RunLock(self.path, quiet=True).release()
        if self.there:
            self._take()
            self._recall(reading.read_run(self.path))

    def _recall(self, record: RunRecord) -> None:
        """Take over what an earlier process found out: counts, times, notes, confusion matrices."""
        run = self._run
        run.outcome, run.best, run.concluded = record.outcome, record.best, record.concluded
        run.totals.update(record.totals)
        run.phases.update({phase.name: phase.seconds for phase in record.phases})
        run.notes.extend(record.notes)
        run.samples.extend(record.samples)
        self._classifications = record.classifications

    def _check_empty(self, resume: str) -> None:
        if resume == "always":
            raise CheckpointError(
                f"{self.path} holds no run to resume", slug="nothing-to-resume",
                hint='resume="auto" begins one',
            )  # fmt: skip
        if self.path.is_dir() and any(
            child.name not in _OF_A_START for child in self.path.iterdir()
        ):
            if (self.path / "checkpoints").is_dir():
                raise CheckpointError(
                    f"{self.path} holds the checkpoints of a run whose run.json is gone",
                    slug="no-run-json", hint="bring run.json back from a copy, or another out=",
                )  # fmt: skip
            raise UsageError(
                f"{self.path} holds other files and no run",
                slug="folder-not-empty", hint="another out=, a new or empty folder",
            )  # fmt: skip

    def _take(self) -> None:
        # Of a run that has nothing left to do not even the lock file's time changes.
        self._lock = RunLock(self.path, owner=self._run, quiet=self.there)
        self._store = Store(self.path / "checkpoints", keep=self._run.policy.keep, lock=self._lock)
        self._best = self._recall_best()

    # -- beginning -----------------------------------------------------------------------------

    def history(self) -> History:
        """Return the run's history, continued where the folder has one."""
        if not self.there:
            return History(self.path / "metrics.jsonl")
        history = read(self.path / "metrics.jsonl")
        history.path = self.path / "metrics.jsonl"
        return history

    def begin(self) -> None:
        """Make the folder, take its lock and write what was asked; once, before the first turn."""
        if self._begun:
            self.write_outcome()
            return
        if self._environment_then is not None:  # of a run with nothing left to do no bit can differ
            identity.warn_if_elsewhere(self._environment_then, self._run.environment)
        if self._lock is None:
            if self._replaces:
                self._put_aside()
            self._made = [place for place in (self.path, *self.path.parents) if not place.exists()]
            with disk.failures("make the folder", self.path):
                disk.ensure_folder(self.path)
            self._take()
            if (self.path / "run.json").exists():
                raise CheckpointError(
                    f"another process has begun a run in {self.path} at the same moment",
                    slug="folder-taken", hint="the same command again goes on with that run",
                )  # fmt: skip
        self._mine = True
        assert self._lock is not None
        self._lock.announce()
        self._write_asked()
        self.write_outcome()
        self._begun = True

    def _put_aside(self) -> None:
        lock = RunLock(self.path)
        try:
            self._aside = reading.put_aside(self.path)
        finally:
            lock.release()

    def undo_begin(self) -> None:
        """Take away what this process made, when nothing was trained; what it has not, stays."""
        if self.there:
            return
        if self._mine and self.path in self._made:  # while the lock is held: all of it is ours
            shutil.rmtree(self.path, ignore_errors=True)
        elif self._mine:
            shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
            for name in ("run.json", "outcome.json", "metrics.jsonl", LOCK):
                with suppress(OSError):  # the first failure is the one to report
                    (self.path / name).unlink(missing_ok=True)
        self._begun = self._mine = False
        self.close()
        self._lock = self._store = None
        for place in self._made:
            with suppress(OSError):  # gone, or not empty: somebody else has begun there
                place.rmdir()
        if self._aside is not None:
            self._aside.rename(self.path)
            self._aside = None

    def _write_asked(self) -> None:
        run = self._run
        asked = {
            "settings": identity.plain(run.settings), "asked": run.asked,
            "recipe": identity.plain(run.recipe), "identity": run.identity,
        }  # fmt: skip
        if self.there:  # longer now, or with a change that was allowed
            known = reading.read_json(self.path / "run.json")
            if any(known.get(name) != value for name, value in strict(asked).items()):
                reading.write_json(self.path / "run.json", {**known, **asked})
            return
        if self._summary is None:
            from loopwright.train.models.summary import of_models

            self._summary = reading.summary_as_json(of_models(run.models))
        first = {
            "format": reading.FORMAT, "name": run.name, "command": [sys.executable, *sys.argv],
            "started": dt.datetime.now().astimezone().isoformat(timespec="seconds"),
            "environment": run.environment, "sources": self._sources, "model": self._summary,
        }  # fmt: skip
        reading.write_json(self.path / "run.json", {**first, **asked})

    def write_summary(self, summary: Any) -> None:
        """Put a fuller summary of the model (with output shapes) into ``run.json``."""
        asked = reading.read_json(self.path / "run.json")
        if isinstance(asked, dict):
            asked["model"] = self._summary = reading.summary_as_json(summary)
            reading.write_json(self.path / "run.json", asked)

    # -- checkpoints ---------------------------------------------------------------------------

    def checkpoint_name(self, loop: Loop, ended: bool = False, turn: int | None = None) -> str:
        """Return the name of a loop's checkpoint at a turn, the current one by default."""
        name = loop.name
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name):
            safe = re.sub(r"[^A-Za-z0-9_-]", "-", name)[:30]
            name = f"{safe}-{zlib.crc32(name.encode()):08x}"
        turn = loop.turn if turn is None else turn
        return f"loop-{name}-end" if ended else f"loop-{name}-turn-{turn:08d}"

    def save(
        self,
        state: Any,
        loop: Loop,
        reason: str,
        *,
        at: tuple[int, int] | None = None,
        ended: bool = False,
        background: bool = True,
        shards: Shards | None = None,
    ) -> None:
        """Hand a state to the store; a loop's end stays for good, so that later loops can restart.

        Args:
            state: at a turn's boundary.
            loop: whose.
            reason: why it is saved.
            at: the boundary's turn and epoch; the current ones by default.
            ended: the loop will not go on.
            background: return before it is written.
            shards: what other processes write of it.
        """
        assert self._store is not None
        turn, epoch = at or (loop.turn, loop.epoch)
        name = self.checkpoint_name(loop, ended, turn)
        if not self._room_checked:
            self._store.room_for(size_of(state) + (0 if shards is None else shards.bytes))
            self._room_checked = True
        best = [k for k, v in self._run.best.items() if v["turn"] == turn and not ended]
        meta = {
            "turn": turn,
            "epoch": epoch,
            "loop": loop.name,
            "reason": reason,
            "best": best,
        }
        try:
            self._store.save(
                state, name=name, meta=meta, background=background, shards=shards,
                before=partial(self._before_a_save, saving.parameter_labels(self._run)),
            )  # fmt: skip
        except DiskError as error:
            if ended:
                self.rescue(error)
            raise
        if ended:
            self._store.protect(name)
        for metric in best:
            self._keep_best(name, metric)

    def _keep_best(self, name: str, metric: str) -> None:
        """Protect the checkpoint of the turn that made the best value, instead of the one before."""
        assert self._store is not None
        before, self._best[metric] = self._best.get(metric), name
        self._store.protect(name)
        if before is not None and before not in self._best.values():
            self._store.unprotect(before)

    def _recall_best(self) -> dict[str, str]:
        """Return which of the protected checkpoints hold the best value of what."""
        assert self._store is not None
        there = set(self._store.names()) & self._store.protected
        return {
            metric: row.name
            for row in self._store.rows()
            if row.name in there
            for metric in self._store.meta(row.name).get("best", ())
        }

    def _before_a_save(self, labels: frozenset[str], tensors: dict[str, Tensor]) -> dict[str, Any]:
        """Make the history as durable as the checkpoint; look at the weights while nobody waits."""
        self._run.history.sync()
        return {"finite": _are_finite(labels, tensors)}

    def hold(self, state: Any) -> Held:
        """Copy a state into memory, for a save that may come later."""
        assert self._store is not None
        return self._store.hold(state)

    @property
    def background_seconds(self) -> float:
        """Seconds of a processor's time that the last write in the background took."""
        return 0.0 if self._store is None else self._store.background_seconds

    def latest_name(self) -> str | None:
        """Return the name of the newest checkpoint."""
        return None if self._store is None else self._store.latest()

    def protect(self, name: str) -> None:
        """Never delete this checkpoint (a process may have died between writing it and this)."""
        assert self._store is not None
        self._store.protect(name)

    def newest(self) -> Any:
        """Return the newest sound checkpoint's state; None where there is no checkpoint."""
        if self._store is None or not self._store.names():
            return None
        return self._store.load()[0]

    def rows(self) -> list[CheckpointRow]:
        """Wait for the write in flight and return what is saved, oldest first."""
        return [] if self._store is None else self._store.rows()

    def load(self, name: str) -> Any:
        """Return one checkpoint's state."""
        assert self._store is not None
        return saving.checked(self._store.load(name)[0], self.path)

    # -- weights -------------------------------------------------------------------------------

    def write_best(self, weights: dict[str, Any]) -> None:
        """Write ``best.safetensors``."""
        save_weights(self.path / "best.safetensors", weights, {"which": "best"})

    def read_best(self) -> dict[str, Any] | None:
        """Return the weights of ``best.safetensors``; None where there is none."""
        path = self.path / "best.safetensors"
        return load_weights_file(path, follow=False)[0] if path.exists() else None

    # -- the end -------------------------------------------------------------------------------

    def add_classification(self, found: Classification) -> None:
        """Keep a confusion matrix for ``evaluation.json``; one of each split."""
        self._classifications = [
            c for c in self._classifications if c.split != found.split
        ] + [found]  # fmt: skip
        if self._begun:
            reading.write_json(
                self.path / "evaluation.json", [asdict(c) for c in self._classifications]
            )

    def go_on_writing(self) -> None:
        """Write again, after a loop that an earlier process has ended; what is the same stays untouched."""
        self._begun = True

    def rescue(self, error: DiskError) -> None:
        """Write the final weights where the state at the end had no room; Adam's is three times as large."""
        place = self.path / "final.safetensors"
        try:
            save_weights(place, self._run.weights(averaged=True), {"which": "final"})
        except DiskError:
            return  # the error that was first says what is needed
        error.add_note(f"the weights at the end are in {place}")

    def finish(self, *, weights: bool = True) -> None:
        """Write the final weights (the averaged ones with an EMA), how it ended, and the report."""
        if not self._begun:
            return
        run = self._run
        if weights:
            save_weights(
                self.path / "final.safetensors", run.weights(averaged=True), {"which": "final"}
            )
            if run.ema is not None:
                save_weights(
                    self.path / "raw.safetensors", run.weights(averaged=False), {"which": "raw"}
                )
        self.write_outcome()
        self.write_report()

    def write_outcome(self) -> None:
        """Write ``outcome.json``: how it stands, counts, the best values, where the time went."""
        run = self._run
        reading.write_json(
            self.path / "outcome.json",
            {
                "outcome": asdict(run.outcome), "totals": run.totals, "best": run.best,
                "phases": [asdict(PhaseTime(k, v)) for k, v in run.phases.items()],
                "notes": run.notes, "samples": run.samples, "concluded": run.concluded,
            },
        )  # fmt: skip

    def write_report(self) -> None:
        """Write ``report.html`` from what stands in the folder."""
        from loopwright.report.html import render

        if self._begun:
            reading.write_text(self.path / "report.html", render(reading.read_run(self.path)))

    def failed(self, outcome: Outcome) -> None:
        """Note how a run failed; the weights of the failed state are not written."""
        if not self._begun:
            return
        assert self._store is not None
        try:
            self._store.wait()
            self._run.history.put_down()
        except LoopwrightError as error:  # of a write in the background; the run has failed already
            self._run.note(f"a checkpoint could not be written: {error.what}")
        self._run.outcome = outcome
        self.finish(weights=False)

    def close(self) -> None:
        """Wait for the last write and give the folder up."""
        if self._store is not None:
            self._store.close()
        if self._lock is not None:
            self._lock.release()
