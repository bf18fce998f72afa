"""A run's model and data again: from the recipe that ``run.json`` names and the weights beside it."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from loopwright.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from loopwright.events import RunRecord
    from loopwright.recipes.recipe import Job

Which = Literal["best", "final", "ema"]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What ``evaluate``, ``predict`` and ``export`` start from; ``weights`` says which were loaded."""

    folder: Path
    record: RunRecord
    job: Job
    weights: str

    @property
    def name(self) -> str:
        """The recipe's name."""
        assert self.record.recipe is not None
        return str(self.record.recipe["name"])

    @property
    def precision(self) -> str:
        """The run's precision: validation is repeated as it was."""
        return str(self.record.settings.get("precision", "fp32"))


def rebuild(folder: Path, which: Which | None = None) -> Rebuilt:
    """Call the run's recipe with the run's parameters and seed, and load its weights.

    Args:
        folder: a run folder.
        which: None takes the best weights where the run kept them, else the final ones.

    Raises:
        CheckpointError: not a run folder, no weights in it, or weights of another model.
        UsageError: the run was a script's.
    """
    from loopwright.train.folder.reading import read_run

    record = read_run(folder)
    if not record.recipe:
        raise UsageError(
            "this run was made by a script, not by a recipe",
            slug="no-recipe",
            where=str(folder),
            hint="evaluate in the script; loopwright export takes --model module:function",
        )
    job = _job(record.recipe, folder)
    if isinstance(job.model, dict):
        raise UsageError(
            f"this run has several models: {', '.join(job.model)}",
            slug="several-models",
            where=str(folder),
            hint="load the one that you want with lw.load_weights",
        )
    return Rebuilt(folder, record, job, load(folder, job.model, which))


def load(folder: Path, model: nn.Module, which: Which | None = None) -> str:
    """Load a run's weights into ``model``; returns which."""
    from loopwright.train.models.weights import load_weights

    if which is None:
        which = "best" if (folder / "best.safetensors").is_file() else "final"
    load_weights(folder, model, which=which)
    return which


def named_model(name: str) -> nn.Module:
    """The model that ``module:function`` returns; the working folder is importable."""
    import torch

    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise UsageError(
            f"--model takes module:function, not {name!r}",
            slug="bad-model",
            where="command line",
            hint="for example --model train:make_model",
        )
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.split(".")[0]:
            raise
        raise UsageError(
            f"there is no module {module_name!r}", slug="bad-model", where="command line"
        ) from error
    if not hasattr(module, attribute):
        from loopwright.recipes.nearest import did_you_mean

        names = [one for one in vars(module) if not one.startswith("_")]
        raise UsageError(
            f"module {module_name} has no {attribute!r}",
            slug="bad-model",
            where="command line",
            hint=did_you_mean(attribute, names),
        )
    made = getattr(module, attribute)
    model = made if isinstance(made, torch.nn.Module) else made()
    if not isinstance(model, torch.nn.Module):
        raise UsageError(
            f"{name} gives {type(model).__name__}, not a torch.nn.Module",
            slug="bad-model",
            where="command line",
        )
    return model


def _job(recipe: dict[str, Any], folder: Path) -> Job:
    import loopwright as lw
    from loopwright.cli.source import find_recipe

    try:
        info = find_recipe(recipe.get("file") or recipe["name"], str(folder))
    except UsageError as error:
        error.hint = "the run was made with this recipe: put it back to use the run"
        raise
    annotations = {one.name: one.annotation for one in info.parameters}
    parameters = {
        name: _revived(annotations.get(name), value)
        for name, value in recipe.get("parameters", {}).items()
    }
    lw.seed(recipe.get("seed", parameters.get("seed", 0)))
    return info.build(parameters)


def _revived(annotation: Any, value: Any) -> Any:
    """A parameter's value as it was before JSON: paths are paths again, tuples tuples."""
    if isinstance(value, list):
        inner = [part for part in get_args(annotation) if part is not Ellipsis]
        items = [_revived(inner[0] if inner else None, item) for item in value]
        return tuple(items) if "tuple" in str(annotation) else items
    kinds = (annotation, *get_args(annotation))
    return Path(value) if isinstance(value, str) and Path in kinds and str not in kinds else value
