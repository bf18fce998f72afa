"""Typed flags as a cyclopts command: parsing, help, and errors that name the flag and the nearest one.

cyclopts splits the words, matches them with the flags and draws the help page. The values are made by
``values``, because a training run must not begin with a number that was rounded or guessed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

from cyclopts import App, Group, Parameter
from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from loopwright.cli.values import Range, either, value_of
from loopwright.errors import UsageError

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One flag: ``--NAME`` with dashes. ``problem`` says what is wrong with a value, or None."""

    name: str
    annotation: Any
    default: Any = REQUIRED
    group: str = "Flags"
    help: str = ""
    limits: Range | None = None
    metavar: str | None = None
    problem: Callable[[Any], str | None] | None = None

    def value(self, words: Sequence[str]) -> Any:
        """The value that ``words`` say; ValueError's message goes on after the flag's name."""
        value = value_of(self.annotation, words)
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, int | float) and not isinstance(item, bool):
                problem = (self.limits or Range()).problem(item)
                if problem is None and self.problem is not None:
                    problem = self.problem(item)
                if problem is not None:
                    raise ValueError(problem)
        return value

    def parameter(self, group: Group) -> inspect.Parameter:
        """The parameter of the command's function that cyclopts reads."""

        def convert(_: Any, tokens: Sequence[Any]) -> Any:
            return self.value([token.value for token in tokens])

        about = Parameter(
            converter=None if self.annotation is bool else convert,
            help=self.help,
            group=group,
            metavar=self.metavar or metavar(self.annotation),
            # --no-NAME where that is not what happens anyway; --NAME=false always works.
            negative=None if self.default is True else (),
            show_choices=metavar(self.annotation) == "CHOICE",
            show_default=self.default not in (REQUIRED, None, [], (), "")
            and self.default is not False,
            consume_multiple=False,
        )
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=self.default,
            annotation=Annotated[self.annotation, about],
        )


def metavar(annotation: Any) -> str | None:
    """What stands for the value on the help page.

    >>> metavar(int), metavar(float | None), metavar(Literal["a", "b"])
    ('N', 'NUMBER', 'a|b')
    """
    inner = [part for part in get_args(annotation) if part not in (type(None), Ellipsis)]
    if get_origin(annotation) is Literal:
        words = "|".join(map(str, inner))
        return words if len(words) <= 20 else "CHOICE"
    if inner:
        return metavar(inner[0])
    return {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}.get(annotation)


def command_of(flags: Iterable[Flag], *, name: str, usage: str, about: str) -> App:
    """A command that takes ``flags`` and nothing else; its function returns what was given."""
    flags = list(flags)
    names = list(dict.fromkeys(flag.group for flag in flags))
    groups = {group: Group(group, sort_key=names.index(group)) for group in names}
    parameters = [flag.parameter(groups[flag.group]) for flag in flags]

    def command(**given: Any) -> dict[str, Any]:
        return given

    # Keyword-only parameters with and without defaults may stand in any order.
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = about
    app = App(name=name, usage=usage, version_flags=[], help_format="plaintext")
    app.default(command)
    app["--help"].show = False
    return app


def parse(
    app: App,
    words: Sequence[str],
    *,
    file: Mapping[str, str | list[str]] | None = None,
    file_name: str = "",
    hint: str = "",
) -> dict[str, Any] | None:
    """What was given: flags of the command line, and those of ``file`` that it does not repeat.

    Args:
        app: from ``command_of``.
        words: the command line after the recipe.
        file: settings of a file, spelled with dashes or underscores.
        file_name: of that file, for messages.
        hint: what to do about a flag that resembles none.

    Returns:
        Values by name; None when the words asked for help, which is then printed.

    Raises:
        UsageError: names the flag, the value and the nearest flag.
    """
    tokens = list(words)
    arguments = app.assemble_argument_collection()
    spelled = {name.lstrip("-"): argument for argument in arguments for name in argument.names}
    given = {id(_matched(arguments, word)) for word in words}
    where = dict.fromkeys(spelled, "command line")
    for key, value in (file or {}).items():
        name = key.replace("_", "-")
        if name not in spelled or name.startswith("no-"):
            raise UsageError(
                f"unknown setting {key!r}",
                slug="unknown-setting",
                where=file_name,
                hint=(nearest_flag(name, spelled) or hint).replace("mean --", "mean "),
            )
        if id(spelled[name]) in given:
            continue
        where[name] = file_name
        tokens += _tokens(name, value, is_flag=spelled[name].hint is bool, file_name=file_name)
    try:
        command, bound, _ = app.parse_args(
            tokens, exit_on_error=False, print_error=False, verbose=False
        )
    except CycloptsError as error:
        refuse(error, hint, where, list(spelled))
    if command is not app.default_command:
        command(*bound.args, **bound.kwargs)
        return None
    return dict(bound.kwargs)


def refuse(
    error: CycloptsError,
    hint: str,
    where: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
) -> NoReturn:
    """Raise cyclopts' error as ours.

    Args:
        error: what parsing found.
        hint: what to do about a word that resembles no flag.
        where: flag -> where its value stands, if not on the command line.
        flags: names without dashes that a mistyped one may be.
    """
    flag, slug = "", "bad-flag"
    advice: str | None = None
    if isinstance(error, UnknownOptionError):
        word = (error.token.keyword or error.token.value).partition("=")[0]
        what, slug = f"unknown flag {word}", "unknown-flag"
        known = flags or [name for one in error.argument_collection for name in one.names]
        advice = nearest_flag(word, known) or hint
    elif isinstance(error, UnknownCommandError | UnusedCliTokensError):
        (word, *_) = error.unused_tokens or [""]
        what, slug = f"unexpected argument {word!r}", "unknown-flag"
        advice = nearest_flag(word, flags) or hint
    elif isinstance(error, CoercionError) and error.argument is not None:
        flag = (error.token.keyword if error.token else None) or error.argument.name
        what = f"{flag} {_problem(error)}"
    elif isinstance(error, RepeatArgumentError):
        flag = error.token.keyword or ""
        what = f"{flag} is given twice"
    elif isinstance(error, MissingArgumentError) and error.argument is not None:
        flag = error.argument.name
        missing = error.tokens_so_far or error.keyword or error.argument.tokens
        what = f"{flag} needs a value" if missing else f"{flag} is missing"
        advice = error.argument.parameter.help or hint
    else:
        what = str(error)
    raise UsageError(
        " ".join(what.split()),
        slug=slug,
        where=(where or {}).get(flag.lstrip("-"), "command line"),
        hint=advice or None,
    ) from error


def _problem(error: CoercionError) -> str:
    """Go on after the flag's name; cyclopts' own converters know no words of ours."""
    if error.msg is not None:
        return str(error.msg)
    seen = f", not {error.token.value!r}" if error.token else ""
    hint = error.argument.hint if error.argument is not None else error.target_type
    if get_origin(hint) is Literal:
        return f"takes {either([str(choice) for choice in get_args(hint)])}{seen}"
    names: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}
    return f"takes {names.get(hint, getattr(hint, '__name__', 'another value'))}{seen}"


def nearest_flag(word: str, flags: Iterable[str]) -> str | None:
    """Ask whether another flag was meant; a beginning of exactly one flag counts as near.

    >>> nearest_flag("--lrr", ["lr", "epochs"])
    'did you mean --lr?'
    >>> nearest_flag("--batch", ["batch-size", "lr"])
    'did you mean --batch-size?'
    """
    word = word.lstrip("-").replace("_", "-").lower()
    known = [name.lstrip("-") for name in flags if len(name.lstrip("-")) > 1]
    begins = [name for name in known if len(word) > 1 and name.startswith(word)]
    close = begins if len(begins) == 1 else get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean --{close[0]}?" if close else None


def _matched(arguments: Any, word: str) -> Any:
    if not word.startswith("-"):
        return None
    try:
        return arguments.match(word.partition("=")[0])[0]
    except ValueError:
        return None


def _tokens(name: str, value: str | list[str], *, is_flag: bool, file_name: str) -> list[str]:
    if not is_flag:
        items = value if isinstance(value, list) else [value]
        return [f"--{name}={item}" for item in items]
    if value not in ("true", "false"):
        raise UsageError(
            f"{name} takes true or false, not {value!r}", slug="bad-flag", where=file_name
        )
    return [f"--{name}" if value == "true" else f"--no-{name}"]
