"""The eight events of a step, each in two sentences with this run's numbers in them."""

from __future__ import annotations

from typing import Any

from loopwright.events import PHASES
from loopwright.events.explained import ExplainRecord, LineNote, StepNote
from loopwright.explainer.sentences.words import share_of
from loopwright.report.explain_view import default_step, main_loop, steps_of
from loopwright.report.formats import count, number, size


def glossary(record: ExplainRecord) -> list[dict[str, str]]:
    """One entry a phase: ``name``, ``what`` it is, and what it did ``here``, in the step shown first."""
    steps = steps_of(record, main_loop(record))
    shown = default_step(steps)
    return [
        {"name": phase, "what": WHAT[phase], "here": _here(phase, steps, shown)} for phase in PHASES
    ]


def _here(phase: str, steps: list[StepNote], shown: StepNote | None) -> str:
    """Of the step that is shown, or of another one where only that one has it."""
    for step in ([shown] if shown is not None else []) + steps:
        if told := HERE[phase](step):
            return f"Here, in step {step.number}: {told}"
    return "This program has none."


WHAT = {
    "fetch": "The loader hands out the next batch: samples are picked, collated and given to the loop.",
    "transfer": (
        "The batch moves to the device (or dtype) that the model is on; if it is there already, "
        "nothing is copied."
    ),
    "zero_grad": "Gradients of the last step are cleared, because backward adds to what is there.",
    "forward": (
        "The model computes its answer; while gradients are on, every operation leaves a node in a "
        "graph."
    ),
    "loss": "One number says how wrong the answer is; it is the root of the graph.",
    "backward": (
        "From the loss, the graph is run in reverse; it writes `.grad` of the leaves (the "
        "parameters) and nothing else."
    ),
    "step": (
        "The optimizer reads `.grad` and its own memory, and changes the parameters; it sees neither "
        "loss nor graph."
    ),
    "item": (
        "A tensor's number is copied into a Python number; a device must finish its work for it, and "
        "no graph hangs on it."
    ),
}


def _facts(step: StepNote, kind: str) -> list[tuple[LineNote, dict[str, Any]]]:
    return [
        (line, event.facts)
        for line in step.lines
        for event in line.events
        if event.kind == kind and not event.facts.get("ended") and not event.facts.get("criterion")
    ]


def _fetch(step: StepNote) -> str:
    found = _facts(step, "fetch")
    if not found or not found[0][1].get("batch"):
        return ""
    batch = found[0][1]["batch"]
    shapes = " and ".join("×".join(map(str, one["shape"])) or "scalar" for one in batch)
    return f"{shapes}, {size(sum(one['bytes'] for one in batch))} a batch."


def _transfer(step: StepNote) -> str:
    found = [one for _, one in _facts(step, "transfer") if "copied" in one]
    if not found:
        return ""
    copied = [one for one in found if one["copied"]]
    if not copied:
        return (
            f"{count(len(found))} calls, nothing copied: all of it was on {found[0]['device']} "
            f"already."
        )
    return f"{size(sum(one.get('bytes', 0) for one in copied))} copied."


def _zero_grad(step: StepNote) -> str:
    found = _facts(step, "zero_grad")
    with_norm = next((facts for _, facts in found if facts["had"]), None)
    if not found:
        return _cleared_otherwise(step)
    if with_norm is None:
        return f"`.grad` of {count(found[0][1]['of'])} parameters was `None` already."
    return (
        f"`.grad` of {count(with_norm['had'])} parameters is thrown away, norm "
        f"{number(with_norm['norm'])}; "
        "without it, the next backward would add to that."
    )


def _cleared_otherwise(step: StepNote) -> str:
    """By what an engine's update does, or by hand."""
    for line in step.lines:
        for note in line.effects.grads:
            if note.change in ("cleared", "zeroed"):
                return (f"nothing calls it; line {line.line} clears `.grad` of {count(note.count)} "
                        f"parameters, norm {number(note.before)}.")  # fmt: skip
    return ""


def _forward(step: StepNote) -> str:
    found = _facts(step, "forward")
    if not found:
        return ""
    _, facts = found[0]
    inputs = ", ".join("×".join(map(str, one["shape"])) for one in facts.get("inputs", [])[:1])
    outputs = ", ".join(
        "×".join(map(str, one["shape"])) or "a scalar" for one in facts.get("outputs", [])[:1]
    )
    nodes = f" and leaves {count(facts['nodes'])} nodes" if facts.get("nodes") else ""
    return f"`{facts['name']}` turns {inputs or 'its input'} into {outputs or 'its output'}{nodes}."


def _loss(step: StepNote) -> str:
    found = [facts for _, facts in _facts(step, "loss") if "value" in facts]
    if not step.losses:
        return ""
    value = number(step.losses[-1])
    # Divided for accumulation, or added to another one, what backward begins at is not the function's.
    same = found and number(found[-1]["value"]) == value
    name = found[0].get("function", "the loss") if same else "the loss"
    return f"{name} is {value}."


def _backward(step: StepNote) -> str:
    for line, facts in _facts(step, "backward"):
        for note in line.effects.grads:
            if note.change in ("written", "accumulated"):
                freed = facts.get("freed_bytes", 0)
                nodes = count(facts["nodes"] - facts["leaves"])
                return (
                    f"{nodes} nodes lead to `.grad` of {count(note.count)} parameters, "
                    f"norm {number(note.after)}{f', and free {size(freed)}' if freed else ''}."
                )
    return ""


def _step(step: StepNote) -> str:
    for line, facts in _facts(step, "step"):
        for note in line.effects.parameters:
            share = f", {share_of(note.delta, note.norm)} of their norm" if note.norm else ""
            return (f"`{facts['name']}` ({facts['kind']}) moves {count(note.numbers)} numbers by "
                    f"‖Δp‖ = {number(note.delta)}{share}.")  # fmt: skip
    return ""


def _item(step: StepNote) -> str:
    found = [facts for _, facts in _facts(step, "item") if "value" in facts]
    if not found:
        return ""
    first = found[0]
    waited = (
        f", after waiting {first['waited'] * 1e3:.2f} ms for the device"
        if "waited" in first
        else ""
    )
    calls = f", the first of {count(len(found))} such numbers" if len(found) > 1 else ""
    return f"{number(first['value'])}{waited}{calls}."


HERE: dict[str, Any] = {
    "fetch": _fetch, "transfer": _transfer, "zero_grad": _zero_grad, "forward": _forward,
    "loss": _loss, "backward": _backward, "step": _step, "item": _item,
}  # fmt: skip
