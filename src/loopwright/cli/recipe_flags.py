"""A recipe's parameters as flags, with the help of its docstring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopwright.cli.flags import REQUIRED, Flag
from loopwright.cli.loop_settings import NUMBERS, loop_flags
from loopwright.cli.values import Range

if TYPE_CHECKING:
    from loopwright.recipes.parameters import Parameter
    from loopwright.recipes.recipe import RecipeInfo

SEED = Flag(
    name="seed",
    annotation=int,
    default=0,
    group=NUMBERS,
    help="Seed of Python's, numpy's and torch's random generators.",
    limits=Range(least=0, most=2**32 - 1),
)
"""For a recipe that has no ``seed`` of its own."""


def all_flags(info: RecipeInfo) -> list[Flag]:
    """The recipe's own flags, then the loop's."""
    own = [_flag(parameter, info) for parameter in info.parameters]
    seed = [] if any(flag.name == "seed" for flag in own) else [SEED]
    return [*own, *loop_flags(), *seed]


def _flag(parameter: Parameter, info: RecipeInfo) -> Flag:
    from loopwright.recipes.parameters import BOUND_TEXT, BOUNDS

    def problem(value: Any) -> str | None:
        fits = BOUNDS.get(parameter.name)
        if fits is None or fits(value):
            return None
        return f"{BOUND_TEXT.get(parameter.name, 'must be at least 1')}, not {value}"

    text = parameter.help
    return Flag(
        name=parameter.name,
        annotation=parameter.annotation,
        default=REQUIRED if parameter.required else parameter.default,
        group=f"Recipe {info.name}",
        help=text[:1].upper() + text[1:],
        problem=problem,
    )
