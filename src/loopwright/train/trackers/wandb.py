"""Weights & Biases."""

from __future__ import annotations

from typing import Any

from loopwright.train.trackers.tracker import Tracker, settings_of

__all__ = ["wandb"]


def wandb(run: Any, project: str | None = None, **settings: Any) -> None:
    """Send what ``run`` logs to Weights & Biases; a resumed run goes on in the same place.

    Args:
        run: the run.
        project: by default what ``WANDB_PROJECT`` says.
        settings: of ``wandb.init``: ``entity``, ``tags``, ``mode="offline"`` …
    """
    if project is not None:
        settings["project"] = project
    _WeightsAndBiases(settings).attach(run)


class _WeightsAndBiases(Tracker):
    name = "wandb"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self._settings = settings
        self._run: Any = None

    def open(self, run: Any, turn: int) -> None:
        import wandb

        settings = {"name": run.name, "config": settings_of(run), **self._settings}
        if run.folder is not None:
            settings.setdefault("dir", str(run.folder))
        known = self.remembered(run) if turn else None
        if known is not None:
            settings |= {"id": known, "resume": "allow"}
        self._run = wandb.init(**settings)
        self.remember(run, self._run.id)
        # Its own step may only grow; turns are sent again after a resume.
        self._run.define_metric("turn")
        self._run.define_metric("*", step_metric="turn")

    def send(self, values: dict[str, float], turn: int) -> None:
        self._run.log({**values, "turn": turn})

    def close(self, kind: str) -> None:
        self._run.finish(exit_code=0 if kind in ("finished", "stopped") else 1)
