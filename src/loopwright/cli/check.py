"""``loopwright check [flags] program``: run a program observed and report its silent mistakes."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loopwright.cli import one_rank
from loopwright.cli.flags import Flag, command_of, parse
from loopwright.cli.output import write_text
from loopwright.cli.values import Range
from loopwright.errors import UsageError

if TYPE_CHECKING:
    from loopwright.events import CheckRecord

ABOUT = """Run a PyTorch program and report its silent mistakes, each with file, line, evidence and fix.

FILE.py ARGS           like python FILE.py ARGS
-m MODULE ARGS         like python -m MODULE ARGS (torch.distributed.run too)
-- COMMAND ARGS        any other command whose Python processes are to be checked

Exit code: the program's own if it failed, else 1 for an error or a warning, else 0. Hints never count.
"""
FLAGS = (
    Flag(
        name="steps",
        annotation=int | None,
        default=None,
        limits=Range(least=1),
        help="Observe that many optimizer steps, then take everything out; the program goes on.",
    ),
    Flag(
        name="json",
        annotation=str | None,
        default=None,
        metavar="FILE.json",
        help="Findings as JSON: on stdout (the program's own goes to stderr), or --json=FILE.",
    ),
    Flag(
        name="sarif",
        annotation=Path | None,
        default=None,
        help="Also write SARIF 2.1.0 into this file.",
    ),
    Flag(
        name="format",
        annotation=Literal["text", "github"],
        default="text",
        help="text for people, github for annotations in a workflow.",
    ),
    Flag(name="select", annotation=str, default="", metavar="RULE,...", help="Only these rules."),
    Flag(name="ignore", annotation=str, default="", metavar="RULE,...", help="Not these rules."),
    Flag(
        name="baseline",
        annotation=Path | None,
        default=None,
        help="Leave out the findings in this file.",
    ),
    Flag(
        name="update_baseline",
        annotation=bool,
        default=False,
        help="Write what is found into the baseline: it is known from now on.",
    ),
    Flag(
        name="fix",
        annotation=bool,
        default=False,
        help="Rewrite the program where the fix is sure, and check it again.",
    ),
    Flag(
        name="diff",
        annotation=bool,
        default=False,
        help="Only show what --fix would write.",
    ),
)
STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Asked:
    """A check, understood."""

    command: list[str]
    folder: Path
    """Where settings are looked for: the script's folder."""
    given: dict[str, Any]
    in_memory: bool = False
    """The program comes from stdin or from the command line itself."""


def check(*words: str) -> int:
    """Run a PyTorch program and report its silent mistakes."""
    asked = understand(words)
    return 0 if asked is None else carry_out(asked)


def understand(words: Sequence[str]) -> Asked | None:
    """What the command line asks for; None when it asked for help, which is then printed."""
    own, program, as_given = split(words)
    app = command_of(
        FLAGS,
        name="loopwright check",
        usage="Usage: loopwright check [FLAGS] FILE.py [ARGS]",
        about=ABOUT,
    )
    given = parse(app, own, hint="loopwright check --help lists the flags")
    if given is None:
        return None
    if not program:
        raise UsageError(
            "what shall be checked?",
            slug="no-program",
            where="command line",
            hint="loopwright check train.py; its own arguments come after it",
        )
    from loopwright.observe.program import command_of as program_command

    folder = Path(program[0]).resolve().parent if program[0].endswith(".py") else Path.cwd()
    given = {**{flag.name: flag.default for flag in FLAGS}, **given}
    in_memory = not as_given and program[0] in ("-", "-c")
    return Asked(program_command(program, as_given=as_given), folder, given, in_memory)


def split(words: Sequence[str], flags: Sequence[Flag] = FLAGS) -> tuple[list[str], list[str], bool]:
    """Our flags, the program's words, and whether those are a command of its own (after ``--``).

    >>> split(["--steps", "5", "train.py", "--lr", "1"])
    (['--steps', '5'], ['train.py', '--lr', '1'], False)
    >>> split(["--json", "-m", "pkg.train"])
    (['--json=-'], ['-m', 'pkg.train'], False)
    >>> split(["--", "accelerate", "launch", "train.py"])
    ([], ['accelerate', 'launch', 'train.py'], True)
    """
    takes_value = {
        "--" + flag.name.replace("_", "-") for flag in flags if flag.annotation is not bool
    }
    own: list[str] = []
    rest = list(words)
    while rest:
        word = rest[0]
        if word == "--":
            return own, rest[1:], True
        if word in ("-m", "-c", "-") or not word.startswith("-"):
            return own, rest, False
        rest.pop(0)
        if word == "--json":
            word = (
                f"--json={rest.pop(0)}"
                if rest and rest[0].endswith(".json")
                else f"--json={STDOUT}"
            )
        elif word in takes_value and rest:
            own.append(word)
            word = rest.pop(0)
        own.append(word)
    return own, [], False


def carry_out(asked: Asked) -> int:
    """Run the program, bring the findings together, report them."""
    from loopwright.checker import suppress
    from loopwright.cli import fixing

    chosen = choose(asked)
    rewrites = asked.given["fix"] or asked.given["diff"]
    if rewrites:
        fixing.be_able(asked)
    since = time.time()
    record = observe(asked, chosen)
    if asked.given["update_baseline"] and chosen.baseline is not None:
        suppress.write_baseline(record, chosen.baseline)
        print(f"wrote {chosen.baseline}", file=sys.stderr)
    if rewrites:
        record = fixing.fix(asked, chosen, record, since)
    report(record, asked.given)
    if record.program.exit_code:
        return record.program.exit_code
    return int(any(one.severity != "hint" for one in record.findings))


@dataclass(frozen=True, slots=True)
class Chosen:
    """Flags and settings together."""

    select: list[str]
    ignore: list[str]
    baseline: Path | None
    steps: int | None


def choose(asked: Asked) -> Chosen:
    """What is to be reported: the command line wins over pyproject.toml.

    Raises:
        UsageError: a rule, a setting or a baseline that cannot be.
    """
    from loopwright.checker import registry, suppress

    settings = suppress.read_settings(asked.folder)
    given = asked.given
    select = _names(given["select"]) or settings.select
    ignore = _names(given["ignore"]) or settings.ignore
    suppress.check_names(
        [*select, *ignore], [*registry.names(), "unused-ignore"], "--select and --ignore"
    )
    baseline = given["baseline"] or (Path(settings.baseline) if settings.baseline else None)
    if given["update_baseline"] and baseline is None:
        raise UsageError(
            "--update-baseline needs --baseline", slug="bad-baseline", where="command line"
        )
    if baseline is not None and not given["update_baseline"]:
        suppress.read_baseline(baseline)
    return Chosen(select, ignore, baseline, given["steps"] or settings.steps)


def observe(asked: Asked, chosen: Chosen) -> CheckRecord:
    """Run the program observed; what was found, less what nobody wants to hear."""
    from loopwright.checker import suppress
    from loopwright.checker.merge import read
    from loopwright.checker.process import START, STEPS
    from loopwright.observe.program import run

    with tempfile.TemporaryDirectory(
        prefix="loopwright-check-", ignore_cleanup_errors=True
    ) as folder:
        code = run(
            asked.command,
            START,
            folder,
            quiet_stdout=asked.given["json"] == STDOUT,
            variables={STEPS: str(chosen.steps)} if chosen.steps else {},
        )
        record = read(Path(folder))
    record.program.command = asked.command
    record.program.exit_code = code if code >= 0 else 128 - code
    if not record.processes:
        record.notes.append(
            "no process of the program imported torch and came to its end, so nothing was observed"
        )
    record.notes += one_rank.note("check")
    suppress.select(record, chosen.select, chosen.ignore)
    whole = not chosen.steps and not code and not chosen.select and not chosen.ignore
    suppress.apply_comments(record, record.files, report_unused=whole)
    if chosen.baseline is not None and not asked.given["update_baseline"]:
        suppress.apply_baseline(record, chosen.baseline)
    return record


def report(record: CheckRecord, given: dict[str, Any]) -> None:
    """Print or write the findings in the forms that were asked for."""
    from loopwright.cli.failures import colourful
    from loopwright.report import findings, findings_json, github, sarif

    if given["sarif"] is not None:
        from loopwright import __version__
        from loopwright.checker.registry import about

        write_text(given["sarif"], sarif.render(record, version=__version__, rules=about()))
    if given["json"] == STDOUT:
        print(findings_json.render(record))
        return
    if given["json"] is not None:
        write_text(Path(given["json"]), findings_json.render(record) + "\n")
    if given["format"] == "github":
        sys.stdout.write(github.render(record))
    else:
        sys.stdout.flush()
        sys.stderr.write(findings.render(record, colour=colourful()))


def _names(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]
