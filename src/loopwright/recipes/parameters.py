"""The parameters of a recipe: read from the function's signature, explained by its docstring."""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from loopwright.errors import UsageError

LOOP_SETTINGS = frozenset(
    [
        "epochs",
        "steps",
        "minutes",
        "samples",
        "tokens",
        "patience",
        "precision",
        "accumulate",
        "clip",
        "ema",
        "compile",
        "device",
        "threads",
        "channels_last",
        "fused",
        "flush_denormal",
        "deterministic",
        "nonfinite",
        "capture",
        "out",
        "resume",
        "allow_change",
        "init",
        "init_which",
        "checkpoint",
        "checkpoint_every",
        "keep_best",
        "log",
        "profile",
        "no_check",
        "quiet",
        "open",
        "dry_run",
        "overfit_one_batch",
        "find_batch_size",
        "lr_range_test",
        "tune",
        "nproc",
        "max_restarts",
        "name",
        "settings",
        "recipe",
        "progress",
        "callbacks",
        "debug",
        "traceback",
        "help",
        "version",
    ]
)
"""Names that belong to the loop: a recipe's own parameter may not be called like them."""

BOUNDS: dict[str, Callable[[float], bool]] = {
    "lr": lambda value: value > 0,
    "weight_decay": lambda value: value >= 0,
    "dropout": lambda value: 0 <= value < 1,
    "seed": lambda value: 0 <= value < 2**32,
    "workers": lambda value: value >= 0,
    **dict.fromkeys(
        ("batch_size", "hidden", "layers", "heads", "width", "context", "size"),
        lambda value: value >= 1,
    ),
}
"""Names with a fixed meaning, and which numbers make sense for them."""

BOUND_TEXT = {
    "lr": "must be above 0",
    "weight_decay": "must not be negative",
    "dropout": "must be at least 0 and below 1",
    "seed": "must be at least 0 and below 2**32",
    "workers": "must not be negative",
}

SCALARS = (bool, int, float, str, Path)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a recipe, hence one flag of ``loopwright train NAME``.

    ``annotation`` is the resolved type: bool, int, float, str, Path, a ``Literal``, a list or tuple
    of those, or one of them ``| None``. ``default`` means nothing where ``required``.
    """

    name: str
    annotation: Any
    default: Any
    required: bool
    help: str

    @property
    def type_name(self) -> str:
        """The annotation as a person would write it."""
        return spell(self.annotation)

    def check(self, value: Any) -> None:
        """Refuse a value of the wrong type, one that is not finite, and one below the name's bound.

        Raises:
            UsageError: with the value that was seen.
        """
        if not accepts(self.annotation, value):
            raise UsageError(
                f"{self.name}={value!r} is not of type {self.type_name}", slug="recipe-parameter"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{self.name}={value} is not a finite number", slug="recipe-parameter")
        if isinstance(value, (int, float)) and self.name in BOUNDS and not BOUNDS[self.name](value):
            wanted = BOUND_TEXT.get(self.name, "must be at least 1")
            raise UsageError(f"{self.name}={value} {wanted}", slug="recipe-parameter")


def read_parameters(function: Callable[..., Any], where: str) -> tuple[Parameter, ...]:
    """Return the typed parameters of a recipe function.

    Args:
        function: its parameters carry annotations; defaults are optional.
        where: ``file.py:12``, for the messages.

    Raises:
        UsageError: a parameter has no annotation, one of a kind that cannot be a flag, a default of
            another type, or the name of one of the loop's own settings.
    """
    try:
        hints = get_type_hints(function)
    except NameError as error:
        raise UsageError(
            f"an annotation of recipe {function.__name__}() cannot be resolved: {error}",
            slug="recipe-annotation",
            where=where,
        ) from error
    helps = read_argument_help(inspect.getdoc(function) or "")
    return tuple(
        _read_parameter(parameter, hints, helps, function.__name__, where)
        for parameter in inspect.signature(function).parameters.values()
    )


def _read_parameter(
    parameter: inspect.Parameter,
    hints: dict[str, Any],
    helps: dict[str, str],
    function_name: str,
    where: str,
) -> Parameter:
    name = parameter.name

    def refuse(what: str, hint: str) -> UsageError:
        return UsageError(
            f"recipe {function_name}(): {what}", slug="recipe-annotation", where=where, hint=hint
        )

    if parameter.kind in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
        parameter.POSITIONAL_ONLY,
    ):
        raise refuse(
            f"parameter {parameter} cannot be a flag", "give every parameter a name and a type"
        )
    if name not in hints:
        raise refuse(
            f"parameter {name!r} has no type", f"write `{name}: {_guess(parameter.default)}`"
        )
    if name in LOOP_SETTINGS:
        raise refuse(
            f"parameter {name!r} has the name of a setting that the loop owns",
            f"rename it; the loop's own setting has its default in the Job: Job({name}=…)",
        )
    annotation = hints[name]
    if not is_flag_type(annotation):
        raise refuse(
            f"parameter {name!r} has type {spell(annotation)}, which no flag can hold",
            "use bool, int, float, str, Path, Literal[...], a list of them, or one of them | None",
        )
    required = parameter.default is parameter.empty
    if not required and not accepts(annotation, parameter.default):
        raise refuse(
            f"parameter {name!r} is {spell(annotation)} but its default is {parameter.default!r}",
            f"write `{name}: {_guess(parameter.default)} = {parameter.default!r}`",
        )
    default = None if required else parameter.default
    return Parameter(name, annotation, default, required, helps.get(name, ""))


def is_flag_type(annotation: Any) -> bool:
    """Say whether a value of this type can be written on a command line."""
    if annotation in SCALARS:
        return True
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return all(isinstance(choice, (str, int)) for choice in arguments)
    if origin in (Union, types.UnionType):
        return all(part is type(None) or is_flag_type(part) for part in arguments)
    if origin in (list, tuple):
        return bool(arguments) and all(part is Ellipsis or is_flag_type(part) for part in arguments)
    return False


def accepts(annotation: Any, value: Any) -> bool:
    """Say whether ``value`` is of the annotated type; an int is also a float, a str also a Path."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return value in arguments
    if origin in (Union, types.UnionType):
        return any(accepts(part, value) for part in arguments)
    if origin in (list, tuple):
        parts = [part for part in arguments if part is not Ellipsis]
        if not isinstance(value, (list, tuple)):
            return False
        if origin is tuple and Ellipsis not in arguments:
            return len(value) == len(parts) and all(map(accepts, parts, value))
        return all(accepts(parts[0], item) for item in value)
    if isinstance(value, bool):
        return annotation is bool
    widened = {float: (float, int), Path: (Path, str)}
    return isinstance(value, widened.get(annotation, annotation))


def spell(annotation: Any) -> str:
    """Return the annotation as written in a signature.

    >>> spell(int), spell(int | None), spell(Literal["a", "b"])
    ('int', 'int | None', "Literal['a', 'b']")
    """
    if get_origin(annotation) is None and isinstance(annotation, type):
        return "None" if annotation is type(None) else annotation.__name__
    if get_origin(annotation) in (Union, types.UnionType):
        return " | ".join(spell(part) for part in get_args(annotation))
    return str(annotation).replace("typing.", "").replace("pathlib.", "")


def read_argument_help(docstring: str) -> dict[str, str]:
    r"""Return name -> explanation from the ``Args:`` section of a Google docstring.

    >>> read_argument_help(
    ...     "Train.\n\nArgs:\n    lr: step size,\n        in weights.\n    seed: of all draws."
    ... )
    {'lr': 'step size, in weights.', 'seed': 'of all draws.'}
    """
    section = re.search(r"^Args:[ \t]*\n((?:[ \t]+.*(?:\n|$)|[ \t]*\n)*)", docstring, re.MULTILINE)
    if section is None:
        return {}
    helps: dict[str, str] = {}
    lines = [line for line in inspect.cleandoc("\n" + section[1]).splitlines() if line.strip()]
    name = ""
    for line in lines:
        entry = re.match(r"\*{0,2}(\w+)(?: \([^)]*\))?:\s*(.*)", line)
        if entry:
            name = entry[1]
            helps[name] = entry[2].strip()
        elif name:
            helps[name] = f"{helps[name]} {line.strip()}".strip()
    return helps


def _guess(default: Any) -> str:
    return type(default).__name__ if isinstance(default, SCALARS) else "float"
