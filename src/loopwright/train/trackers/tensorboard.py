"""TensorBoard: event files in the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopwright.errors import UsageError
from loopwright.train.trackers.tracker import Tracker, settings_of

__all__ = ["tensorboard"]


def tensorboard(run: Any, folder: str | Path | None = None) -> None:
    """Write what ``run`` logs as TensorBoard events.

    Args:
        run: the run.
        folder: for the event files; by default ``tensorboard`` in the run's folder.

    Raises:
        UsageError: the run has no folder, and none is given.
    """
    if folder is None and run.folder is None:
        raise UsageError(
            "TensorBoard writes files, and this run has no folder.",
            slug="tracker-folder",
            hint='give Run("runs/name", ...), or log=[partial(tensorboard, folder="...")]',
        )
    _TensorBoard(Path(folder) if folder else Path(run.folder) / "tensorboard").attach(run)


class _TensorBoard(Tracker):
    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._writer: Any = None

    def open(self, run: Any, turn: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # purge_step hides what an interrupted run had sent beyond the checkpoint it resumes from.
        purge = turn + 1 if turn else None
        self._writer = SummaryWriter(str(self._folder), purge_step=purge)
        rows = "\n".join(f"| {name} | {value} |" for name, value in settings_of(run).items())
        self._writer.add_text("settings", f"| setting | value |\n| --- | --- |\n{rows}", turn)

    def send(self, values: dict[str, float], turn: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, turn)

    def close(self, kind: str) -> None:  # noqa: ARG002 - it knows no outcome
        self._writer.close()
