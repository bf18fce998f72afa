"""Programs that are recorded in a process of their own, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopwright.events.explained import ExplainRecord, LineNote, StepNote
from loopwright.explainer.build import build
from loopwright.explainer.merge import plain
from loopwright.explainer.record import Recording
from loopwright.explainer.sentences.narrate import narrate

PROGRAMS = Path(__file__).parents[1] / "programs"

RUN = """
import dataclasses, json, os, runpy, sys
os.environ.setdefault("KINETO_LOG_LEVEL", "6")
import torch
from loopwright.explainer.build import build
from loopwright.explainer.record import Recording
path, out, settings = sys.argv[1:4]
sys.argv = [path]
recording = Recording(**json.loads(settings))
error = None
recording.start()
try:
    runpy.run_path(path, run_name="__main__")
except SystemExit:
    pass
finally:
    recording.stop()
    record = build(recording)
    with open(out, "w") as file:
        json.dump(dataclasses.asdict(record), file)
"""


@dataclass(kw_only=True)
class Printed(ExplainRecord):
    """A record, and what the program printed while it was made."""

    printed: str = ""


def record(run_program, path: Path, out: Path, **settings: Any) -> Printed:
    """Run the program at ``path`` recorded; its narrated record."""
    done = run_program(["-c", RUN, str(path), str(out), json.dumps(settings)], cwd=out.parent)
    assert done.rc == 0, f"{done.rc}: {done.err}"
    made = plain(Printed, json.loads(out.read_text()))
    made.printed = done.out
    made.title = path.name
    narrate(made)
    return made


def recorded_here(train: Callable[[], Any], **settings: Any) -> ExplainRecord:
    """Call a function recorded in this process; its narrated record."""
    import torch._dynamo  # noqa: F401  imported by the first optimizer, which takes long when followed

    recording = Recording(**{"whatifs": False, **settings})
    recording.start(outer=False)
    try:
        train()
    finally:
        recording.stop()
        made = build(recording)
    made.title = "train"
    narrate(made)
    return made


def step(record: ExplainRecord, number: int, kind: str = "training") -> StepNote:
    """A recorded step of the first loop of a kind."""
    (loop, *_) = [at for at, one in enumerate(record.loops) if one.kind == kind]
    return next(one for one in record.steps if one.loop == loop and one.number == number)


def line(step: StepNote, record: ExplainRecord, text: str) -> LineNote:
    """The note of the statement whose source holds ``text``."""
    for one in step.lines:
        source = record.files[one.file].text.splitlines()[one.line - 1 : one.end_line]
        if text in "\n".join(source):
            return one
    raise AssertionError(f"no line with {text!r}")


def said(record: ExplainRecord) -> list[str]:
    """Every sentence, with the text of its line before it."""
    lines = [*record.setup, *(one for each in record.steps for one in each.lines)]
    return [
        f"{record.files[one.file].text.splitlines()[one.line - 1].strip()} | {sentence}"
        for one in lines
        for sentence in one.sentences
    ]
