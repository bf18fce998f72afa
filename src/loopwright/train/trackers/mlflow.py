"""MLflow."""

from __future__ import annotations

from typing import Any

from loopwright.train.trackers.tracker import Tracker, settings_of

__all__ = ["mlflow"]

_PARAMS_AT_ONCE = 100  # MLflow's own limit for one request
_LONGEST_PARAM = 500
_STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED"}


def mlflow(run: Any, experiment: str | None = None) -> None:
    """Send what ``run`` logs to MLflow; a resumed run goes on in the same place.

    Args:
        run: the run.
        experiment: its name; by default what ``MLFLOW_EXPERIMENT_NAME`` says.
    """
    _MLflow(experiment).attach(run)


class _MLflow(Tracker):
    name = "mlflow"

    def __init__(self, experiment: str | None) -> None:
        super().__init__()
        self._experiment = experiment
        self._id = ""

    def open(self, run: Any, turn: int) -> None:
        import mlflow

        if self._experiment is not None:
            mlflow.set_experiment(self._experiment)
        known = self.remembered(run) if turn else None
        active = mlflow.start_run(run_id=known, run_name=None if known else run.name)
        self._id = active.info.run_id
        self.remember(run, self._id)
        if known is None:
            items = [
                (name, str(value)[:_LONGEST_PARAM]) for name, value in settings_of(run).items()
            ]
            for start in range(0, len(items), _PARAMS_AT_ONCE):
                mlflow.log_params(dict(items[start : start + _PARAMS_AT_ONCE]), run_id=self._id)

    def send(self, values: dict[str, float], turn: int) -> None:
        import mlflow

        mlflow.log_metrics(values, step=turn, run_id=self._id)

    def close(self, kind: str) -> None:
        import mlflow

        mlflow.end_run(_STATUS.get(kind, "FAILED"))
