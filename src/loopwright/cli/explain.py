"""``loopwright explain [flags] program``: run a few steps of a program and show what each line did."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.cli import one_rank
from loopwright.cli.check import split
from loopwright.cli.flags import Flag, command_of, parse
from loopwright.cli.output import write_page, write_text
from loopwright.cli.values import Range
from loopwright.errors import UsageError

if TYPE_CHECKING:
    from loopwright.events import Finding
    from loopwright.events.explained import ExplainRecord

ABOUT = """Run a few steps of a PyTorch program and show, line by line, what each did to real tensors.

(no program)           the tutorial loop on handwritten digits; --show prints its file
FILE.py ARGS           like python FILE.py ARGS
-m MODULE ARGS         like python -m MODULE ARGS (torch.distributed.run too)
-- COMMAND ARGS        any other command whose Python processes are to be explained
--diff BEFORE FILE.py  what its lines do that those of BEFORE (a program, or an earlier --json) did not

The explanation stands in the terminal and on one offline page. When its loop has been recorded the program
may go on for --wait seconds (validation comes into view) and is then ended.
"""
STDOUT = "-"
TUTORIAL = "tutorial.py"
FLAGS = (
    Flag(name="steps", annotation=int, default=3, limits=Range(least=1),
         help="Steps of each loop that are recorded in full."),
    Flag(name="wait", annotation=float, default=10.0, limits=Range(least=0),
         help="Seconds that the program may go on after its training loop was recorded."),
    Flag(name="whole", annotation=bool, default=False, help="Let the program run to its end."),
    Flag(name="html", annotation=str | None, default="", metavar="FILE.html",
         help="Where to write the page; explain-NAME.html by default, none for no page."),
    Flag(name="json", annotation=str | None, default=None, metavar="FILE.json",
         help="The record as JSON: on stdout (the program's own goes to stderr), or --json=FILE."),
    Flag(name="budget", annotation=int, default=128, limits=Range(least=1), metavar="MB",
         help="Megabytes for copies of parameters; beyond it changes are computed in pieces."),
    Flag(name="whatifs", annotation=bool, default=True,
         help="Run the recorded step again on copies, with one thing changed each time."),
    Flag(name="check", annotation=bool, default=False,
         help="Then run the whole program once more under check, and show the findings at their lines."),
    Flag(name="diff", annotation=str | None, default=None, metavar="BEFORE",
         help="Another program, or an earlier explanation's JSON: show what lines do that they did not."),
    Flag(name="show", annotation=bool, default=False, help="Print the tutorial's file and stop."),
    Flag(name="quiet", annotation=bool, default=False, help="Only write the page or the JSON."),
    Flag(name="open", annotation=bool, default=False, help="Open the page in the browser."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """An explanation, understood."""

    words: list[str]
    as_given: bool
    given: dict[str, Any]
    tutorial: bool = False
    command: list[str] = field(default_factory=list)


def explain(*words: str) -> int:
    """Run a few steps of a PyTorch program and show what each line did to real tensors."""
    asked = understand(words)
    if asked is None:
        return 0
    if asked.given["show"]:
        sys.stdout.write(tutorial())
        return 0
    return carry_out(asked)


def tutorial() -> str:
    """The file that is explained when none is named."""
    return files("loopwright.cli").joinpath("tutorial.py.txt").read_text(encoding="utf-8")


def understand(words: Sequence[str]) -> Asked | None:
    """What the command line asks for; None when it asked for help, which is then printed."""
    own, program, as_given = split(words, FLAGS)
    app = command_of(
        FLAGS,
        name="loopwright explain",
        usage="Usage: loopwright explain [FLAGS] [FILE.py [ARGS]]",
        about=ABOUT,
    )
    given = parse(app, own, hint="loopwright explain --help lists the flags")
    if given is None:
        return None
    given = {**{flag.name: flag.default for flag in FLAGS}, **given}
    if given["diff"] is not None and not as_given:
        tell_misplaced(program)
    if program[:1] == ["-"]:  # from stdin: its text is what will be annotated
        program = ["-c", sys.stdin.read(), *program[1:]]
    return Asked(list(program), as_given, given, tutorial=not program)


def tell_misplaced(program: Sequence[str]) -> None:
    """Say that a flag after the program is the program's; it may well be meant so."""
    names = {f"--{no}{flag.name.replace('_', '-')}" for flag in FLAGS for no in ("", "no-")}
    name = 2 if program[:1] in (["-m"], ["-c"]) else 1
    found = [word for word in program[name:] if word.partition("=")[0] in names]
    if found:
        print(
            f"loopwright: {', '.join(found)} stands after {' '.join(program[:name])}, so both programs get "
            f"it; flags of explain stand before",
            file=sys.stderr,
        )


def carry_out(asked: Asked) -> int:
    """Run the program, narrate, print, write the page."""
    given = asked.given
    if given["diff"] is not None:
        from loopwright.cli.differing import differ

        return differ(
            asked.words, given, lambda words: record_of(words, given, as_given=asked.as_given)
        )
    with tempfile.TemporaryDirectory(
        prefix="loopwright-explain-", ignore_cleanup_errors=True
    ) as folder:
        words = asked.words
        if asked.tutorial:
            script = Path(folder) / TUTORIAL
            script.write_text(tutorial(), encoding="utf-8")
            words = [str(script)]
        record, code = record_of(words, given, as_given=asked.as_given, whole=asked.tutorial)
    if record is None:
        if code:
            return code if code >= 0 else 128 - code
        raise UsageError(
            "no process of the program imported torch and ended by itself, so there is nothing to explain",
            slug="nothing-recorded",
            where=" ".join(words[:2]),
            hint="is this the script that trains?",
        )
    if asked.tutorial:
        record.files[0].path = TUTORIAL
        record.program.command = []  # its file is gone by now
    return report(record, given)


def record_of(
    words: Sequence[str], given: dict[str, Any], *, as_given: bool = False, whole: bool = False
) -> tuple[ExplainRecord | None, int]:
    """Run a program recorded; its record with sentences, and its exit code."""
    from loopwright.explainer.merge import read
    from loopwright.explainer.process import SETTINGS, START
    from loopwright.explainer.sentences.narrate import narrate
    from loopwright.observe.program import command_of as program_command
    from loopwright.observe.program import run

    command = program_command(words, as_given=as_given, verb="explain")
    settings = {
        "steps": given["steps"],
        "budget": given["budget"] * 1_000_000,
        "wait": None if given["whole"] or whole else given["wait"],
        "whatifs": given["whatifs"],
    }
    with tempfile.TemporaryDirectory(
        prefix="loopwright-explain-", ignore_cleanup_errors=True
    ) as folder:
        code = run(
            command,
            START,
            folder,
            quiet_stdout=given["json"] == STDOUT or given["quiet"],
            variables={SETTINGS: json.dumps(settings), **SILENCE},
        )
        record = read(Path(folder))
    if record is None:
        return None, code
    record.title = title(words)
    record.program.command = list(words)
    record.program.exit_code = code if code >= 0 else 128 - code
    if record.stopped:
        record.notes.append(ended(record, given["wait"]))
    record.notes += one_rank.note("explain")
    if given["check"]:
        record.findings = findings_of(command)
    narrate(record)
    return record, code


def ended(record: ExplainRecord, wait: float) -> str:
    """How far a program came that was ended: the turns of the loop that trained most."""
    trained = max(record.loops, key=lambda one: (one.kind == "training", one.turns), default=None)
    when = f"{wait:g} s after" if wait else "once"
    where = ""
    if trained is not None and (trained.line or trained.library):
        where = f", in turn {trained.turns:,} of the {trained.name.removeprefix('the ')}"
    return (
        f"the program was ended {when} its loops had been recorded{where} (--whole lets it run on)"
    )


SILENCE = {
    name: os.environ.get(name, value)
    for name, value in (("KINETO_LOG_LEVEL", "6"), ("TORCH_CPP_LOG_LEVEL", "ERROR"))
}
"""The profiler that counts allocations writes lines of its own to stderr otherwise."""


def findings_of(command: Sequence[str]) -> list[Finding]:
    """What check finds in the same program, run to its end; what it prints is not shown again."""
    from loopwright.checker import suppress
    from loopwright.checker.merge import read
    from loopwright.checker.process import START
    from loopwright.observe.program import run

    print("once more, under check", file=sys.stderr)
    with tempfile.TemporaryDirectory(
        prefix="loopwright-check-", ignore_cleanup_errors=True
    ) as folder:
        run(command, START, folder, silent=True)
        record = read(Path(folder))
    suppress.apply_comments(record, record.files, report_unused=False)
    return record.findings


def title(words: Sequence[str]) -> str:
    """How the program is called on the page."""
    if words[0] == "-m":
        return words[1]
    return "a program" if words[0] == "-c" else Path(words[0]).name


def report(record: ExplainRecord, given: dict[str, Any]) -> int:
    """Print and write the explanation in the forms that were asked for."""
    from loopwright.report import explain_json

    if given["json"] == STDOUT:
        print(explain_json.render(record))
    elif given["json"] is not None:
        write_text(Path(given["json"]), explain_json.render(record) + "\n")
    if given["json"] != STDOUT and not given["quiet"]:
        from loopwright.cli.terminal import console
        from loopwright.report.explain_terminal import WIDTH, explanation

        out = console()
        width = min(WIDTH, out.width)
        out.print(explanation(record, width=width), width=width)
    _page(record, given)
    return record.program.exit_code


def _page(record: ExplainRecord, given: dict[str, Any]) -> None:
    """Write the page, and open it if that was asked for."""
    from loopwright.report import explain_html

    stem = "".join(
        c if c.isalnum() or c in "-_." else "-" for c in record.title.removesuffix(".py")
    )
    write_page(given, f"explain-{stem or 'program'}.html", lambda: explain_html.render(record))
