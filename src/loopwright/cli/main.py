"""``loopwright VERB``: finds the verb, runs it, and turns what went wrong into one error and an exit code."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from loopwright import __version__
from loopwright.cli.failures import show, show_exit, show_warning
from loopwright.errors import UsageError

if TYPE_CHECKING:
    from cyclopts import App

VERBS = {
    "train": "Train a recipe: a built-in one, a Python file, or a settings file.",
    "check": "Run any PyTorch program and report its silent mistakes.",
    "explain": "Run a few steps of any PyTorch program and show what each line did to real tensors.",
    "rules": "List the rules of check, or print the page of one.",
    "evaluate": "Evaluate a run's weights on its validation or test data.",
    "predict": "Answer for new data with a run's weights.",
    "export": "Write a run's weights or model for use elsewhere.",
    "runs": "Compare the runs of a folder: a table, or a page of their curves.",
    "report": "Write a run's report.html again.",
    "verify": "Check a run folder byte by byte, and say what a resume would take.",
    "recipes": "List the built-in recipes.",
    "new": "Write a commented starter recipe.",
}
"""Each verb is the function of that name in the module of that name."""

ABOUT = """Train PyTorch models with the loop still visible.

Start with: loopwright train digits
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see ``failures``)."""
    words = list(sys.argv[1:] if argv is None else argv)
    everything = "--traceback" in words
    if words[:1] not in (["check"], ["explain"]):  # their words may be the program's own
        words = [word for word in words if word != "--traceback"]
    warnings.showwarning = partial(show_warning, warnings.showwarning)
    try:
        code = _run(words)
        sys.stdout.flush()  # a reader that has gone is told here, not while Python shuts down
    except SystemExit as end:
        return show_exit(end, everything=everything)
    except BaseException as error:  # noqa: BLE001  whatever it is, a person reads it
        return show(error, everything=everything)
    return code


def _run(words: list[str]) -> int:
    if words[:1] == ["train"]:
        # Its flags depend on the recipe, so it parses them itself.
        from loopwright.cli.train import train

        return train(*words[1:])
    if words[:1] == ["check"]:
        # What comes after the program's name is the program's.
        from loopwright.cli.check import check

        return check(*words[1:])
    if words[:1] == ["explain"]:
        from loopwright.cli.explain import explain

        return explain(*words[1:])
    from cyclopts.exceptions import CycloptsError, UnknownCommandError

    from loopwright.cli.flags import refuse

    app = application()
    try:
        command, bound, _ = app.parse_args(
            words, exit_on_error=False, print_error=False, verbose=False
        )
    except UnknownCommandError as error:
        raise _unknown_verb((error.unused_tokens or words)[0]) from error
    except CycloptsError as error:
        if words[0].startswith("-"):
            raise _unknown_verb(words[0]) from error
        refuse(error, f"loopwright {words[0]} --help shows what it takes")
    return command(*bound.args, **bound.kwargs) or 0


def application() -> App:
    """The verbs as a cyclopts application; a verb's module is imported when it is used."""
    from cyclopts import App, Group

    app = App(
        name="loopwright",
        help=ABOUT,
        help_epilogue="--traceback after any command shows the library's lines of an error too.",
        usage="Usage: loopwright VERB [ARGUMENTS]",
        version=__version__,
        help_format="plaintext",
        group_commands=Group("Verbs", sort_key=0),
    )
    for verb, about in VERBS.items():
        command = getattr(import_module(f"loopwright.cli.{verb}"), verb)
        app.command(command, name=verb, sort_key=list(VERBS).index(verb))
        if about != (app[verb].help or "").partition("\n")[0]:
            app[verb].help = about
    return app


def _unknown_verb(word: str) -> UsageError:
    from loopwright.recipes.nearest import did_you_mean
    from loopwright.recipes.registry import names

    hint = f"did you mean train {word}?" if word in names() else did_you_mean(word, VERBS)
    return UsageError(
        f"there is no verb {word!r}", slug="unknown-verb", where="command line", hint=hint
    )
