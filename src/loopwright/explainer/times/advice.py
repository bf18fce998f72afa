"""What would make a step faster, with the gain that was measured on copies or computed from the recording.

A gain is a share of the step's time. What would gain less than ``LEAST`` is not said, nor anything whose gain
is not known.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from statistics import median
from typing import Any

from loopwright.events.explained import Advice, TimingNote
from loopwright.explainer.follow.turns import DEEP, LoopRecord, Turn
from loopwright.explainer.sentences.words import duration, many
from loopwright.report.formats import percent, size

LEAST = 0.02
MOST = 6
WORKERS = 4
SEEN_EVERY = 50
"""Steps between two lines that tell how it goes."""
OFTEN = 16
"""Turns of a Python loop in one step, from which it is worth a word."""
RESOLUTION = 5e-6
"""Seconds; what is said of a turn of such a loop must be longer."""
TELLING = frozenset(
    ("print", "add_scalar", "add_scalars", "add_histogram", "log", "info", "debug", "write",
     "set_postfix", "set_description", "flush", "log_metric")
)  # fmt: skip
HELD = 1 << 30
"""Bytes of data that a device is asked to hold at most."""


def advise(note: TimingNote, record: LoopRecord, recording: Any, turns: list[Turn]) -> list[Advice]:
    """Everything that is worth doing, the largest gain first."""
    if not record.steps or note.seconds <= 0 or note.recorded:
        return []
    found = Findings(note, record, recording, turns)
    every = [
        *found.optimizers(), *found.zeroing(), *found.data(), *found.transfers(), *found.pinning(),
        *found.small_tensors(), *found.reading(), *found.python_loops(), *found.telling(),
    ]  # fmt: skip
    worth = sorted((one for one in every if one.gain >= LEAST), key=lambda one: -one.gain)
    # An optimizer of each fold is built in the same line, and called the same.
    unlike: dict[tuple[str, int, int, str], Advice] = {}
    for one in worth:
        unlike.setdefault((one.title, one.file, one.line, one.code), one)
    return list(unlike.values())[:MOST]


class Findings:
    """What the timing of one loop, and what was tried beside it, say.

    Args:
        note: where a step goes.
        record: the loop.
        recording: what else is known.
        turns: that were timed.
    """

    def __init__(self, note: TimingNote, record: LoopRecord, recording: Any, turns: list[Turn]):
        self.note = note
        self.record = record
        self.recording = recording
        self.turns = turns
        self.tried = record.tried or {}
        self.kept = [one for one in recording.kept if one.record is record and one.mode == DEEP]

    def optimizers(self) -> Iterator[Advice]:
        """``fused=True`` or ``foreach=True``, tried on copies."""
        for _, name in self.record.optimizers:
            tried = self.tried.get(f"step {name}")
            if tried is None or not tried.faster:
                continue
            saved = (tried.before - tried.after) * self._a_turn("step")
            gain = min(saved, self.note.phases.get("step", 0.0)) / self.note.seconds
            file, line, code = self._made(tried.numbers, name, f"{tried.way}=True")
            some = (
                "" if tried.share >= 1 else f", tried on {percent(tried.share, 0)} of the numbers"
            )
            yield Advice(
                f"Let `{name or 'the optimizer'}` update all parameters "
                + ("in one kernel" if tried.way == "fused" else "together"),
                line, file, gain, "measured",
                f"On copies of the parameters a step takes {duration(tried.before)} as it is, and "
                f"{duration(tried.after)} with `{tried.way}=True`{some}. The rule is the same; last digits "
                f"may be rounded otherwise.",
                code,
            )  # fmt: skip

    def zeroing(self) -> Iterator[Advice]:
        """Gradients set to 0 where they could be let go."""
        for visit, event in self._last("zero_grad"):
            if not any(note.change == "zeroed" for note in visit.effects.grads):
                continue
            name = event.facts.get("name", "")
            tried = self.tried.get(f"zero_grad {name}") or next(
                (one for key, one in self.tried.items() if key.startswith("zero_grad ")), None
            )
            if tried is None or not tried.faster:
                return
            saved = (tried.before - tried.after) * self._a_turn("zero_grad")
            yield Advice(
                "Let gradients go instead of setting them to 0",
                visit.statement.line, visit.statement.source.number,
                saved / self.note.seconds, "measured",
                f"On copies, setting to 0 and adding again takes {duration(tried.before)} a step, which "
                f"`None` does not need: backward then writes instead of adding.",
                f"{name or 'optimizer'}.zero_grad(set_to_none=True)",
            )  # fmt: skip
            return

    def data(self) -> Iterator[Advice]:
        """Waiting for batches: samples one by one, workers for what is in memory, too few of them."""
        data = self.record.data
        waits = self.note.phases.get("fetch", 0.0)
        if data is None or not waits:
            return
        tried = self.tried.get("fetch")
        file, line = self._head()
        if tried is not None and tried.faster:
            if data.workers:
                saved = waits - tried.after
                what = f"Take batches without the {data.workers} worker processes: the data is in memory"
                how = f"the loop waits {duration(waits)} for a batch that comes through another process"
            else:
                saved = min(waits, tried.before - tried.after)
                what = "Take a batch out of the data set at once"
                how = f"{many(data.batch_size, 'sample')} taken one by one take {duration(tried.before)}"
            yield Advice(
                what, line, file, saved / self.note.seconds, "measured",
                f"On this data, {how}; taken with one index, {duration(tried.after)}. Order and batches stay "
                f"the same.",
                f"DataLoader(dataset, batch_size=None, "
                f"sampler=BatchSampler({data.sampler}(dataset), {data.batch_size}, {data.drop_last}))",
            )  # fmt: skip
            return
        if tried is None:
            yield from self._workers(data.workers, waits, file, line)

    def _workers(self, workers: int, waits: float, file: int, line: int) -> Iterator[Advice]:
        """Samples that are computed can be computed in other processes, while the step runs."""
        processes = min(WORKERS, cpus() - 1)
        rest = self.note.seconds - waits
        if waits < 1e-3 or processes <= workers:
            return
        alone = waits if not workers else self.note.seconds * workers
        after = max(rest, alone / processes)
        yield Advice(
            f"Prepare batches in {many(processes, 'worker process', 'worker processes')}",
            line, file, (self.note.seconds - after) / self.note.seconds, "computed",
            f"A batch takes {duration(alone)} of one process, the rest of a step {duration(rest)}; "
            f"{processes} at once bring one every {duration(alone / processes)}, while the step runs. "
            f"Passing a batch on is not counted.",
            f"DataLoader(..., num_workers={processes}, persistent_workers=True)",
        )  # fmt: skip

    def transfers(self) -> Iterator[Advice]:
        """Batches that are copied or cast again in every epoch though all of them would fit."""
        data = self.record.data
        total = data.bytes if data is not None else None
        if total is None or total > HELD:
            return
        copied = {
            event.line: (visit.statement, event.facts) for visit, event in self._last("transfer")
            if event.facts.get("copied") and event.facts["is"] == "tensor"
            and not _made_and_moved(visit.statement.node)
        }  # fmt: skip
        took = sum(self._transferring(line) for line in copied)
        for statement, facts in copied.values():
            there = facts["device"] if facts["device"] != facts["from_device"] else facts["dtype"]
            yield Advice(
                f"Bring the data to {there} once, before the loop",
                statement.line, statement.source.number,
                took / self.note.seconds, "computed",
                f"Transfers take {duration(took)} a step; the whole data set is {size(total)}.",
            )  # fmt: skip
            return

    def _transferring(self, line: int) -> float:
        """Median seconds a turn of the transfers at a line."""
        return median(
            sum(span.ended - span.began for span in turn.spans
                if span.phase == "transfer" and span.site.position().line == line) / 1e9
            for turn in self.turns
        )  # fmt: skip

    def pinning(self) -> Iterator[Advice]:
        """Copies to a GPU that wait for ordinary memory."""
        tried = self.tried.get("transfer")
        if tried is None or not tried.faster:
            return
        saved = min(tried.before - tried.after, self.note.phases.get("transfer", 0.0))
        for visit, _ in self._last("transfer"):
            yield Advice(
                "Pin the batches' memory, and do not wait for their copies",
                visit.statement.line, visit.statement.source.number,
                saved / self.note.seconds, "measured",
                f"Copies of {size(tried.bytes)} take {duration(tried.before)} out of ordinary memory "
                f"and {duration(tried.after)} out of pinned memory, and the host need not wait for those.",
                "DataLoader(..., pin_memory=True)  and  .to(device, non_blocking=True)",
            )  # fmt: skip
            return

    def small_tensors(self) -> Iterator[Advice]:
        """Tensors that are made on the host and copied to the device in every step."""
        for visit, event in self._last("transfer"):
            statement = visit.statement
            facts = event.facts
            made = _made_and_moved(statement.node)
            if not facts.get("copied") or facts["device"] == facts["from_device"] or not made:
                continue
            took = self._transferring(event.line)
            yield Advice(
                "Make this tensor on the device, instead of copying it there",
                statement.line, statement.source.number, took / self.note.seconds, "computed",
                f"The copy of {size(facts.get('bytes', 0))} takes {duration(took)} of each step.",
                f"torch.{made}(..., device=device)",
            )  # fmt: skip

    def _last(self, kind: str) -> Iterator[tuple[Any, Any]]:
        """Statements of the last recorded turn with their events of a kind."""
        for turn in self.kept[-1:]:
            for visit in turn.everything():
                yield from ((visit, event) for event in visit.events if event.kind == kind)

    def reading(self) -> Iterator[Advice]:
        """Numbers read in every step, for which the host waits though it could run ahead."""
        waited = self.note.waits.get("item", [0.0])[0]
        busy = sum(took for phase, took in self.note.device.items() if phase != "item")
        if not waited or not busy:
            return
        after = max(self.note.seconds - waited, busy)
        for visit, event in self._last("item"):
            if "waited" not in event.facts:
                continue
            name = event.facts.get("name") or "loss"
            yield Advice(
                "Add the number up on the device, and read it once an epoch",
                visit.statement.line, visit.statement.source.number,
                (self.note.seconds - after) / self.note.seconds, "computed",
                f"The host waits {duration(waited)} a step; without it the next step would be prepared "
                f"meanwhile. The device itself needs at most {duration(busy)} a step.",
                f"total += {name}.detach()",
            )  # fmt: skip
            return

    def python_loops(self) -> Iterator[Advice]:
        """A loop inside the step that runs many times in Python."""
        for loop, (turns, took, file) in self._inner().items():
            if turns < OFTEN or took < turns * RESOLUTION:
                continue  # what following takes is of the same size
            yield Advice(
                "Do the work of this loop with one call for all of its turns",
                loop.line, file, took * (1 - 1 / turns) / self.note.seconds, "computed",
                f"It runs {turns:.0f} times a step, {duration(took)} together; at best it would take as long "
                f"as one turn.",
            )  # fmt: skip

    def _inner(self) -> dict[Any, tuple[float, float, int]]:
        """Loops inside the step: turns a step, seconds a step, file."""
        loops = {
            inner.record for turn in self.kept for inner in turn.inner
            if inner.loop is not None and not inner.count("step") and not inner.count("backward")
        }  # fmt: skip
        seldom = {place for one in self.note.seldom for place in one.lines}
        found = {}
        for record in loops:
            source, loop = record.source, record.loop
            if source is None or loop is None or f"{source.number}:{loop.line}" in seldom:
                continue  # a validation is no part of the step
            took = sum(
                visit.total for turn in self.turns for visit in turn.everything()
                if loop in visit.statement.loops
            )  # fmt: skip
            if record.entered:
                seconds = took / 1e9 / len(self.turns)
                found[loop] = (record.turns / record.entered, seconds, source.number)
        return found

    def telling(self) -> Iterator[Advice]:
        """Lines that tell how it goes, in every step."""
        for key, took in self.note.lines.items():
            file, line = (int(part) for part in key.split(":"))
            if file >= len(self.recording.sources):
                continue
            statement = self.recording.sources[file].by_line.get(line)
            node = getattr(statement, "node", None)
            called = getattr(node, "value", None)
            if not isinstance(node, ast.Expr) or not isinstance(called, ast.Call):
                continue
            name = getattr(called.func, "attr", getattr(called.func, "id", ""))
            if name not in TELLING or took <= 0:
                continue
            yield Advice(
                f"Call `{name}` every {SEEN_EVERY} steps instead of in each",
                line, file, took * (1 - 1 / SEEN_EVERY) / self.note.seconds, "computed",
                f"It takes {duration(took)} of each step.",
                f"if step % {SEEN_EVERY} == 0:",
            )  # fmt: skip

    def _a_turn(self, kind: str) -> float:
        """How often an event happens in a turn."""
        counts = [turn.count(kind) for turn in self.turns]
        return sum(counts) / len(counts) if counts else 0.0

    def _head(self) -> tuple[int, int]:
        loop, source = self.record.loop, self.record.source
        return (source.number, loop.line) if loop is not None and source is not None else (-1, 0)

    def _made(self, numbers: int, name: str, more: str) -> tuple[int, int, str]:
        """Where an optimizer was made, and that call with one argument more."""
        # What is made between two steps outside of any loop is a part of that stretch.
        visits = [
            *self.recording.setup,
            *(one for turn in self.recording.kept for one in turn.visits),
        ]
        made = [
            visit for visit in sorted(visits, key=lambda one: -one.order)
            if any(event.kind == "optimizer" for event in visit.events)
        ]  # fmt: skip

        def another(visit: Any) -> tuple[bool, bool]:
            """A name may be given again: the number of weights tells which one it was."""
            facts = [event.facts for event in visit.events if event.kind == "optimizer"]
            same = any(numbers == one.get("parameters") for one in facts)
            return not same, name not in visit.statement.stores

        for visit in sorted(made, key=another):
            places = [(e.line, e.column) for e in visit.events if e.kind == "optimizer"]
            node = _call_at(visit.statement.node, visit.statement.source.text, places)
            text = ast.get_source_segment(visit.statement.source.text, node) if node else None
            if text is None or not text.endswith(")"):
                continue
            shown = " ".join(text[:-1].split()).rstrip(",")
            return visit.statement.source.number, visit.statement.line, f"{shown}, {more})"
        for visit in (one for turn in self.kept[-1:] for one in turn.everything()):
            if any(event.kind == "step" for event in visit.events):
                return visit.statement.source.number, visit.statement.line, more
        return -1, 0, more


def _call_at(node: ast.AST, text: str, places: list[tuple[int, int]]) -> ast.Call | None:
    """The call that begins at a line and column; what is made inside another call is not that call's."""
    lines = text.splitlines()
    for one in ast.walk(node):
        if isinstance(one, ast.Call):
            before = lines[one.lineno - 1].encode()[: one.col_offset].decode()
            if (one.lineno, len(before) + 1) in places:
                return one
    return None


def _made_and_moved(node: ast.AST) -> str:
    """The function of torch whose result a statement moves at once; empty where it moves something else."""
    for one in ast.walk(node):
        if not isinstance(one, ast.Call) or getattr(one.func, "attr", "") not in ("to", "cuda"):
            continue
        made = getattr(one.func, "value", None)
        if isinstance(made, ast.Call) and ast.unparse(made.func).startswith("torch."):
            return ast.unparse(made.func).removeprefix("torch.")
    return ""


def cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
