"""A recipe: a typed function that returns everything a training run needs.

::

    import loopwright as lw


    @lw.recipe
    def mine(lr: float = 0.01, seed: int = 0) -> lw.Job:
        ...
        return lw.Job(
            model=model, optimizer=optimizer, criterion=criterion, train_loader=train, epochs=5
        )

``loopwright train mine.py --lr 0.02`` makes a flag of every parameter, sets the seed, calls the
function and gives the job to ``lw.fit``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from loopwright.errors import DataError, UsageError
from loopwright.recipes.nearest import did_you_mean
from loopwright.recipes.parameters import Parameter, read_parameters

if TYPE_CHECKING:
    from torch import Tensor

MARK = "__loopwright_recipe__"

Function = TypeVar("Function", bound="Callable[..., Job]")


@dataclass(kw_only=True)
class Job:
    """What a recipe returns; the names are those of ``lw.fit``.

    Attributes:
        model: a module, or a dict of several.
        optimizer: an optimizer, a function from parameters to one, or a dict of those.
        criterion: ``criterion(model(inputs), targets)`` is the loss, without a ``compute_loss``.
        train_loader: batches to learn from.
        valid_loader: batches for choosing (best epoch, early stopping, your next hyper-parameters).
        test_loader: evaluated once, at the very end; chooses nothing.
        metrics: names (``"accuracy"``), objects with update/compute/reset, or a dict of those.
        epochs: length of the run unless the command line says another; or ``steps``/``minutes``.
        compute_loss: ``fn(model, batch)`` returns the loss, or ``(loss, outputs, targets)``.
        classes: names of a classifier's outputs, for the confusion matrix.
        keep_best: ``("valid_accuracy", "max")``.
        weight: ``fn(batch)`` returns what the batch counts for in averages; None: its samples.
        finish: ``fn(run)`` at the end; the text that it returns goes into the report.
        read: ``fn(source)`` yields ``(id, input)`` for predict; inputs have no batch dimension.
        answer: ``fn(row of the model's output)`` returns the columns of the answer.
        example: a batch of inputs for summary and export; None: the first training batch.
    """

    model: Any
    optimizer: Any
    train_loader: Iterable[Any]
    criterion: Callable[..., Tensor] | None = None
    valid_loader: Iterable[Any] | None = None
    test_loader: Iterable[Any] | None = None
    metrics: Sequence[Any] | Mapping[str, Any] = ()
    scheduler: Any = None
    ema: Any = None
    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    precision: str = "fp32"
    accumulate: int = 1
    clip: float | str | None = None
    compute_loss: Callable[[Any, Any], Any] | None = None
    callbacks: Sequence[Callable[..., None]] = ()
    classes: Sequence[str] | None = None
    keep_best: tuple[str, str] | None = None
    patience: int | None = None
    weight: Callable[[Any], Any] | None = None
    finish: Callable[[Any], str | None] | None = None
    read: Callable[[str], Iterator[tuple[str, Any]]] | None = None
    answer: Callable[[Tensor], dict[str, Any]] | None = None
    example: Any = None

    def __post_init__(self) -> None:
        if self.criterion is None and self.compute_loss is None:
            raise UsageError(
                "the job has no loss",
                slug="recipe-job",
                hint="give Job(criterion=…) or Job(compute_loss=…)",
            )
        lengths = [
            name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None
        ]
        if len(lengths) > 1:
            raise UsageError(
                f"the job has {len(lengths)} lengths: {', '.join(lengths)}",
                slug="recipe-job",
                hint="keep one",
            )
        for name in ("train_loader", "valid_loader", "test_loader"):
            loader = getattr(self, name)
            if loader is not None and hasattr(type(loader), "__len__") and _length(loader) == 0:
                raise DataError(
                    f"{name} has no batch",
                    slug="no-batch",
                    hint="more data, a smaller batch_size, or drop_last=False",
                )


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except TypeError:  # a DataLoader over an unsized stream has __len__ and refuses to answer
        return None


@dataclass(frozen=True, slots=True)
class RecipeInfo:
    """What is known of a recipe before it is called.

    ``name`` is the function's name with dashes; ``file`` and ``line`` are where it is defined.
    """

    name: str
    function: Callable[..., Job]
    summary: str
    parameters: tuple[Parameter, ...]
    file: str
    line: int

    @property
    def where(self) -> str:
        """``file:line`` of the function."""
        return f"{self.file}:{self.line}"

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters that have a default, and it."""
        return {
            parameter.name: parameter.default
            for parameter in self.parameters
            if not parameter.required
        }

    def complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a value for every parameter: the given ones, and the defaults of the others.

        Raises:
            UsageError: an unknown name, a value of the wrong type or range, or a missing one.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in values:
            if name not in known:
                raise UsageError(
                    f"recipe {self.name} has no parameter {name!r}",
                    slug="recipe-parameter",
                    hint=did_you_mean(name, known),
                )
        complete = self.defaults | dict(values)
        for name, parameter in known.items():
            if name not in complete:
                flag = name.replace("_", "-")
                raise UsageError(
                    f"recipe {self.name} needs --{flag}",
                    slug="recipe-parameter",
                    hint=parameter.help or None,
                )
            parameter.check(complete[name])
            if parameter.annotation is Path:
                complete[name] = Path(complete[name])
            elif parameter.annotation is float:
                complete[name] = float(complete[name])
        return complete

    def build(self, values: Mapping[str, Any]) -> Job:
        """Check the values, call the recipe and return its job.

        Raises:
            UsageError: see ``complete``; or the function returned something else than a job.
        """
        job = self.function(**self.complete(values))
        if not isinstance(job, Job):
            raise UsageError(
                f"recipe {self.name} returned {type(job).__name__}, not a Job",
                slug="recipe-job",
                where=self.where,
                hint="end it with `return lw.Job(model=…, optimizer=…, train_loader=…, …)`",
            )
        return job


def recipe(function: Function) -> Function:
    """Mark a function as a recipe; it stays callable as before.

    Raises:
        UsageError: a parameter has no type, or one that cannot be a flag (see ``read_parameters``).
    """
    if not inspect.isfunction(function):
        raise UsageError(
            f"@lw.recipe marks a function, not {type(function).__name__}",
            slug="recipe-annotation",
            hint="write it as a plain `@lw.recipe` above a `def`",
        )
    code = function.__code__
    where = f"{Path(code.co_filename).name}:{code.co_firstlineno}"
    info = RecipeInfo(
        name=function.__name__.replace("_", "-"),
        function=function,
        summary=(inspect.getdoc(function) or "").partition("\n")[0],
        parameters=read_parameters(function, where),
        file=code.co_filename,
        line=code.co_firstlineno,
    )
    setattr(function, MARK, info)
    return function


def info_of(function: Callable[..., Job]) -> RecipeInfo:
    """Return what ``recipe`` found out about a marked function."""
    return getattr(function, MARK)
