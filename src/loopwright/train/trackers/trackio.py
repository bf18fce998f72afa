"""trackio: a local dashboard with the calls of Weights & Biases."""

from __future__ import annotations

from typing import Any

from loopwright.train.trackers.tracker import Tracker, settings_of

__all__ = ["trackio"]


def trackio(run: Any, project: str = "loopwright", **settings: Any) -> None:
    """Send what ``run`` logs to trackio; a resumed run goes on under the same name.

    Args:
        run: the run.
        project: which dashboard.
        settings: of ``trackio.init``: ``group``, ``space_id`` …
    """
    _Trackio(project, settings).attach(run)


class _Trackio(Tracker):
    name = "trackio"

    def __init__(self, project: str, settings: dict[str, Any]) -> None:
        super().__init__()
        self._project = project
        self._settings = settings
        self._run: Any = None

    def open(self, run: Any, turn: int) -> None:
        import trackio

        known = self.remembered(run) if turn else None
        self._run = trackio.init(
            **{
                "project": self._project,
                "name": known or run.name,
                "config": settings_of(run),
                "resume": "allow" if known else "never",
                "embed": False,
                **self._settings,
            }
        )
        self.remember(run, self._run.name)

    def send(self, values: dict[str, float], turn: int) -> None:
        self._run.log(values, step=turn)

    def close(self, kind: str) -> None:  # noqa: ARG002 - it knows no outcome
        self._run.finish()
