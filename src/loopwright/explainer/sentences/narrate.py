"""Turns what a statement did into sentences, from its numbers alone; nothing is said that was not measured.

A word in backticks is code; renderers set it as such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Any

from loopwright.events.explained import (
    Effects,
    ExplainRecord,
    GradNote,
    LineNote,
    ParameterNote,
    TensorNote,
)
from loopwright.explainer.sentences.brief import brief, moving
from loopwright.explainer.sentences.glossary import glossary
from loopwright.explainer.sentences.tell import TELLERS
from loopwright.explainer.sentences.words import (
    capital,
    generator,
    listed,
    many,
    parameters,
    shape,
    share_of,
    who,
)
from loopwright.report.explain_view import without_numbers
from loopwright.report.formats import count, number, size

ALIKE = 3
"""Sentences that differ in their numbers alone are told that often, and then counted."""


def narrate(record: ExplainRecord) -> None:
    """Fill in ``sentences`` everywhere, and the glossary."""
    for line in record.setup:
        line.sentences = _all_sentences(line, record, record.setup)
    for step in record.steps:
        for line in step.lines:
            line.sentences = _all_sentences(line, record, step.lines)
        step.brief = brief(step)
    record.glossary = glossary(record)


def _all_sentences(line: LineNote, record: ExplainRecord, lines: list[LineNote]) -> list[str]:
    """Those of each call that leads there, or of all of its runs together."""
    if not line.parts:
        return list(dict.fromkeys(_sentences(line, lines)))
    found = []
    for part in line.parts:
        part.sentences = list(dict.fromkeys(_sentences(part, lines)))
        file, _, number = part.called_from.partition(":")
        there = (
            "" if int(file) == line.file else f" of {PurePath(record.files[int(file)].path).name}"
        )
        found += [f"Called from line {number}{there}: {one}" for one in part.sentences[:1]]
        found += part.sentences[1:]
    return found


def _sentences(line: LineNote, lines: list[LineNote]) -> Iterator[str]:
    yield from _few(_told(line))
    kinds = {event.kind for event in line.events if not event.facts.get("by_hand")}
    yield from _grads(line.effects, kinds)
    yield from _moved(line, kinds, lines)
    yield from _rest(line, kinds)
    yield from _made(line, kinds)


def _told(line: LineNote) -> Iterator[str]:
    """What its events say of themselves."""
    for event in line.events:
        teller = TELLERS.get(event.kind)
        if not event.facts.get("criterion") and teller is not None:
            yield from teller(event, line)


def _few(sentences: Iterable[str]) -> Iterator[str]:
    """Of sentences that differ in numbers alone the first ones, and how many more there are."""
    every = list(sentences)
    told = list(dict.fromkeys(every))
    of_kind = Counter(map(without_numbers, told))
    seen: Counter[str] = Counter()
    for one in told:
        kind = without_numbers(one)
        seen[kind] += 1
        times = every.count(one)
        if seen[kind] <= ALIKE:
            yield f"{one[:-1]}, {count(times)} times." if times > 1 and " mode: " in one else one
        if seen[kind] == ALIKE < of_kind[kind]:
            yield f"And {count(of_kind[kind] - ALIKE)} more like that."


# what changed


def _grads(effects: Effects, kinds: set[str]) -> Iterator[str]:
    for note in effects.grads:
        if note.change in ("cleared", "zeroed") and "zero_grad" in kinds:
            continue  # said by zero_grad itself
        yield _grad(note)
        if note.sparse and note.change in ("written", "accumulated"):
            tensors, rows, of = note.sparse
            which = "It is" if note.count == tensors == 1 else f"{count(tensors)} of them are"
            which = f"{count(tensors)} of them is" if tensors == 1 < note.count else which
            yield f"{which} sparse: {count(rows)} of {many(of, 'row')}; the others are 0 and take no memory."


def _grad(note: GradNote) -> str:
    whose = f"`.grad` of {who(note.count, note.of, note.names)}"
    held = f" = {listed(note.values)}" if note.values else ""
    if note.change == "written":
        before = "`None`" if note.before is None else "0"
        return (
            f"{whose}: {before} → values{held}, norm {number(note.after)}, "
            f"{many(note.numbers, 'number')}."
        )
    if note.change == "accumulated":
        norms = f"norm {number(note.before)} → {number(note.after)}"
        return f"{whose}: **added** to what was there{held}, {norms}."
    if note.change == "replaced":
        return f"{whose} is another tensor now{held}: norm {number(note.before)} → {number(note.after)}."
    if note.change == "cleared":
        return f"{whose} is `None` again (norm was {number(note.before)})."
    if note.change == "zeroed":
        return f"{whose} is 0 again (norm was {number(note.before)})."
    factor = ""
    if note.before and note.after:
        factor = f" (× {number(note.after / note.before)})"
    return (
        f"{whose} is changed in place: norm {number(note.before)} → {number(note.after)}{factor}."
    )


def _moved(line: LineNote, kinds: set[str], lines: list[LineNote]) -> Iterator[str]:
    effects = line.effects
    yield from _moves(effects.parameters, by_step="step" in kinds)
    if "step" in kinds and not effects.parameters:
        inside = sorted({one.line for one in moving(line, lines)})
        where = f"line{'' if len(inside) == 1 else 's'} {' and '.join(map(str, inside))}"
        yield f"Its own code moves the parameters, in {where}." if inside else "No parameter moved."
    for rate in effects.rates:
        group = f" (group {rate.group})" if rate.group else ""
        yield (
            f"`{rate.optimizer or 'optimizer'}`{group}: {rate.name} {number(rate.before)} → "
            f"{number(rate.after)}."
        )
    if effects.buffers:
        names = list(effects.buffers)
        shown = ", ".join(f"`{name}`" for name in names[:2]) + (", …" if len(names) > 2 else "")
        yield f"{many(len(names), 'buffer')} changed ({shown})."


def _moves(notes: list[ParameterNote], *, by_step: bool) -> Iterator[str]:
    """One sentence a move; several of the same parameters are told together."""
    groups: dict[tuple[int, int, int], list[ParameterNote]] = {}
    for note in notes:
        groups.setdefault((note.count, note.of, note.numbers), []).append(note)
    for several in groups.values():
        if len(several) < 3:
            yield from (_parameters(note, by_step=by_step) for note in several)
            continue
        deltas = ", ".join(number(note.delta) for note in several[:6]) + (
            ", …" if len(several) > 6 else ""
        )
        whose = capital(parameters(several[0].count, several[0].of))
        verb = "moves" if several[0].of <= 1 else "move"
        yield f"{whose} {verb} {count(len(several))} times, by ‖Δp‖ = {deltas}."


def _parameters(note: ParameterNote, *, by_step: bool) -> str:
    share = (
        f" ({share_of(note.delta, note.norm)} of ‖p‖ = {number(note.norm)})" if note.norm else ""
    )
    sure = "" if note.exact else f" (estimated from {note.how})"
    if note.before and note.after:
        return (f"`{note.largest}` moves: {listed(note.before)} → {listed(note.after)}, "
                f"‖Δp‖ = {number(note.delta)}.")  # fmt: skip
    most = f", the most in `{note.largest}`" if note.count > 1 and note.largest else ""
    how = "" if by_step or note.by else " without an optimizer"
    verb = "moves" if note.of <= 1 else "move"
    return (
        f"{capital(parameters(note.count, note.of))} {verb}{how} by ‖Δp‖ = "
        f"{number(note.delta)}{share}{most}{sure}."
    )


def _rest(line: LineNote, kinds: set[str]) -> Iterator[str]:
    effects = line.effects
    if "mode" not in kinds and (effects.to_train or effects.to_eval):
        words = [f"{count(n)} to {name} mode" for n, name in
                 ((effects.to_train, "train"), (effects.to_eval, "eval")) if n]  # fmt: skip
        yield f"Modules change their mode: {', '.join(words)}."
    for held, what in ((effects.frozen, "no gradient: backward leaves them out"),
                       (effects.learning, "gradients: backward will give them a `.grad`")):  # fmt: skip
        if held:
            tensors, numbers = held
            is_set = "is" if tensors == 1 else "are"
            what = what if tensors > 1 else what.replace("them", "it")
            yield f"{many(tensors, 'tensor')} of {many(numbers, 'number')} {is_set} set to require {what}."
    for name, seed in effects.seeds.items():
        yield f"{generator(name)} starts from seed {seed}: the same draws every time."
    if effects.rng:
        yield f"It draws from {' and '.join(generator(name) for name in effects.rng)}."
    told = {event.facts.get("generator") for event in line.events if event.facts.get("state")}
    back = [name for name in effects.restored if name not in told]
    if back:
        are = "is" if len(back) == 1 else "are"
        yield (f"{' and '.join(generator(name) for name in back)} {are} put back to an earlier state: the "
               "same draws come again.")  # fmt: skip
    for facts in line.objects:
        yield from _object(facts, kinds)


def _object(facts: dict[str, Any], kinds: set[str]) -> Iterator[str]:
    if facts["is"] == "module" and facts["parameters"]:
        frozen = facts["parameters"] - facts["trainable"]
        rest = f", {count(frozen)} of them frozen" if frozen else ""
        yield (
            f"`{facts['name']}`: {many(facts['modules'], 'module')}, {count(facts['parameters'])} "
            f"parameters in "
            f"{many(facts['tensors'], 'tensor')} ({size(facts['bytes'])}){rest}."
        )
    elif facts["is"] == "optimizer" and "optimizer" not in kinds:
        yield f"`{facts['name']}` will update {many(facts['parameters'], 'number')}."
    elif (
        facts["is"] == "loader"
        and facts.get("batches") is not None
        and facts.get("samples") is not None
    ):
        batches = many(facts["batches"], "batch", "batches")
        yield f"`{facts['name']}`: {count(facts['samples'])} samples in {batches}."
    elif facts["is"] == "dataset" and facts.get("samples") is not None:
        yield f"`{facts['name']}`: {count(facts['samples'])} samples."


def _made(line: LineNote, kinds: set[str]) -> Iterator[str]:
    """Tensors that a statement made, where its events do not tell of them."""
    told = {"fetch", "transfer", "forward", "loss", "backward", "step"}
    notes, further = line.tensors, line.further
    if kinds & told:
        further = 0
        by_hand = [event.facts["node"] for event in line.events if event.facts.get("by_hand")]
        notes = [note for note in notes if note.node in by_hand and not note.shape]
    for note in notes[:ALIKE]:
        yield _tensor(note)
    if len(notes) + further > ALIKE:
        yield f"And {many(len(notes) + further - ALIKE, 'further tensor')}."


def _tensor(note: TensorNote) -> str:
    held = f" = {listed(note.values)}" if note.values and note.shape != [] else ""
    held = f" = {number(note.values[0])}" if note.shape == [] and note.values else held
    text = f"`{note.name}`{held}: {shape(note.shape)} {note.dtype}"
    if note.at_once > 1:
        return f"{text}, in each of {count(note.at_once)} calls that `vmap` makes as one."
    if note.node and note.retains:
        kept = (
            "keeps its `.grad`, because it was asked to"
            if note.grad is None
            else f"has a `.grad` of norm {number(note.grad)}"
        )
        return f"{text}, made by `{note.node}`; it is no leaf, and still {kept}."
    if note.node:
        begins = "; backward begins there" if note.root else ""
        return (
            f"{text}, made by `{note.node}`: it requires grad, but is no leaf, so its `.grad` stays "
            f"`None`{begins}."
        )
    if note.requires_grad:
        grad = "`None`" if note.grad is None else f"of norm {number(note.grad)}"
        return f"{text}, a leaf that requires grad; its `.grad` is {grad}."
    return f"{text}, {size(note.bytes)}."
