"""What each kind of event says of itself; a word in backticks is code."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from loopwright.events.explained import EventNote, LineNote
from loopwright.explainer.sentences.words import (
    capital,
    duration,
    generator,
    listed,
    many,
    parameters,
    shape,
)
from loopwright.report.formats import count, number, size


def _fetch(event: EventNote, line: LineNote) -> Iterator[str]:
    facts = event.facts
    if facts.get("ended"):
        yield "The loader had no further batch: the epoch is over."
        return
    batch = facts.get("batch", [])
    # What is assigned may be made of the batch: ``losses = [step(batch) for batch in loader]``.
    same = all(note.shape == one["shape"] for note, one in zip(line.tensors, batch, strict=False))
    names = [note.name for note in line.tensors] if same else []
    parts = []
    for index, one in enumerate(batch):
        name = f"`{names[index]}` " if index < len(names) else ""
        parts.append(f"{name}{shape(one['shape'])} {one['dtype']}")
    if parts:
        total = sum(one["bytes"] for one in batch)
        yield f"The next batch: {', '.join(parts)}; {size(total)}."
    if facts.get("workers"):
        yield f"{facts['workers']} worker processes had prepared it."


def _epoch(event: EventNote, _: LineNote) -> Iterator[str]:
    facts = event.facts
    if facts.get("samples") is None or facts.get("batches") is None:
        return
    last, whose = "", ""
    if any(one in str(facts.get("sampler")) for one in ("Distributed", "SampleShare")):
        whose = "this rank's share of "
    elif facts.get("batch_size") and not facts.get("drop_last"):
        rest = facts["samples"] - (facts["batches"] - 1) * facts["batch_size"]
        if 0 < rest < facts["batch_size"]:
            last = f", the last one of {count(rest)}"
    order = (
        " in a new random order"
        if "Random" in str(facts.get("sampler"))
        else ("" if whose else " in the same order each time")
    )
    yield (
        f"A pass over {whose}{count(facts['samples'])} samples begins{order}: "
        + many(facts["batches"], "batch", "batches")
        + (f" of {count(facts['batch_size'])}{last}." if facts.get("batch_size") else ".")
    )


def _transfer(event: EventNote, _: LineNote) -> Iterator[str]:
    facts = event.facts
    what = f"`{facts['name']}`" if facts.get("name") else "The " + str(facts.get("is", "tensor"))
    if "copied" not in facts:
        return
    if facts["is"] == "module":
        if not facts["copied"]:
            yield f"{what} is on {facts['device']} already: nothing was copied."
        else:
            yield (f"{count(facts['parameters'])} parameters ({size(facts['bytes'])}) go "
                   f"{_way(facts)}, in place.")  # fmt: skip
        return
    if not facts["copied"]:
        yield f"{what} is {facts['dtype']} on {facts['device']} already: the same tensor, nothing was copied."
    else:
        yield f"{what} goes {_way(facts)}: a copy of {size(facts['bytes'])}."


def _way(facts: dict[str, Any]) -> str:
    way = []
    if facts["from_device"] != facts["device"]:
        way.append(f"from {facts['from_device']} to {facts['device']}")
    if facts["from_dtype"] != facts["dtype"]:
        way.append(f"from {facts['from_dtype']} to {facts['dtype']}")
    return " and ".join(way) or f"to {facts['device']}"


def _zero_grad(event: EventNote, line: LineNote) -> Iterator[str]:
    facts = event.facts
    if not facts["had"]:
        yield f"`.grad` of {parameters(facts['of'], facts['of'])} was `None` already: nothing to clear."
        return
    found = {note.change: note for note in line.effects.grads}
    fate = "set to 0" if "zeroed" in found else "`None` again"
    used = "**no step had used it**" if facts.get("unused") else "the last step had used it"
    used = "the last step had used it before it was added to" if facts.get("partly") else used
    used = "the step that calls this has used it" if facts.get("inside") else used
    norm = f"its norm was {number(facts['norm'])}, and {used}"
    yield f"`.grad` of {parameters(facts['had'], facts['of'])} is {fate}: {norm}."


def _forward(event: EventNote, line: LineNote) -> Iterator[str]:
    facts = event.facts
    came = ", ".join(shape(one["shape"]) for one in facts.get("inputs", [])[:2])
    went = ", ".join(shape(one["shape"]) for one in facts.get("outputs", [])[:2])
    mode = "train" if facts["training"] else "eval"
    inside = len(facts.get("modules", []))
    through = f" through {many(inside, 'module')}" if inside else ""
    cast = f", cast to {facts['autocast']} by autocast" if facts.get("autocast") else ""
    if facts.get("given"):
        through = f" with {many(facts['given'], 'tensor')} in place of its own"
    if came and went:
        yield f"`{facts['name']}` in {mode} mode: {came} → {went}{through}{cast}."
    else:
        yield f"`{facts['name']}` runs in {mode} mode{through}{cast}."
    acts = []
    if facts.get("active_dropout"):
        acts.append(f"{many(facts['active_dropout'], 'dropout')} drew a new mask")
    if facts.get("active_norms"):
        acts.append(f"{many(facts['active_norms'], 'batch norm')} used this batch's statistics")
    if acts:
        yield f"{capital(' and '.join(acts))}."
    if not facts["grad"]:
        yield "No graph is built (gradients are off), so nothing is kept for backward."
    elif facts.get("nodes") and not any(
        one.kind in ("loss", "backward") and not one.facts.get("by_hand") for one in line.events
    ):
        remember = "remembers" if facts["nodes"] == 1 else "remember"
        yield f"{many(facts['nodes'], 'graph node')} {remember} how it was computed."


def _loss(event: EventNote, line: LineNote) -> Iterator[str]:
    facts = event.facts
    if facts.get("by_hand"):
        if not any(note.node == facts["node"] and not note.shape for note in line.tensors):
            value = f" is {number(facts['value'])}," if "value" in facts else ""
            begins = ": backward begins there" if facts["root"] else ""
            yield f"The loss{value or ' is'} made by `{facts['node']}`{begins}."
        return
    stored = next((note for note in line.tensors if note.node), None)
    whole = stored is not None and stored.values == [facts.get("value")]
    name = f"`{stored.name}` = " if stored is not None and whole and len(line.tensors) == 1 else ""
    function = str(facts["function"])
    shapes = facts.get("shapes") or []
    across = ""
    if facts.get("reduction") in ("mean", "sum") and shapes and shapes[0]:
        rows = shapes[0][0]
        across = f", the {facts['reduction']} over {many(rows, 'sample')}"
    if "value" in facts:
        yield (
            f"{name}{function} of {' and '.join(shape(one) for one in shapes)}{across}: "
            f"{number(facts['value'])}."
        )
    last = [one for one in line.events if one.kind == "loss" and not one.facts.get("by_hand")][-1]
    if stored is None or not stored.requires_grad or event is not last:
        return  # what the name holds is of the last run
    is_it = f"`{stored.name}`" if not whole else "It"
    if stored.values and not whole and not stored.shape:
        is_it = f"`{stored.name}` is {number(stored.values[0])} by then; it"
    root = ": it is the root of the graph" if stored.root else ""
    begins = ", where backward begins" if root else ""
    yield (
        f"{is_it} is still a tensor, because it remembers how it was computed{root} "
        f"(`{stored.node}`){begins}."
    )


def _backward(event: EventNote, line: LineNote) -> Iterator[str]:
    facts = event.facts
    made = facts["nodes"] - facts["leaves"]  # each leaf has one of its own, which writes its .grad
    root = f"`{facts['root']}`" if facts.get("root") else "the loss"
    if facts["nodes"]:
        leaves = many(facts["leaves"], "leaf", "leaves")
        yield f"From {root} back through {many(made, 'graph node')} to {leaves}{_let_go(facts)}."
    if facts.get("hooked"):
        keep = "keeps its" if facts["hooked"] == 1 else "keep their"
        yield (f"{count(facts['hooked'])} of the nodes {keep} tensors through hooks (checkpointing "
               "computes them again here, offloading brings them back): these are not counted.")  # fmt: skip
    for one in facts.get("retained", ()):
        held = f" = {listed(one['values'])}" if one["values"] else ""
        norm = f", norm {number(one['norm'])}" if one["norm"] is not None else ""
        yield f"`.grad` of `{one['name']}`, which is no leaf, is kept as it was asked to{held}{norm}."
    if not line.effects.grads and not facts.get("retained"):
        yield "No `.grad` changed."


def _let_go(facts: dict[str, Any]) -> str:
    """What became of the tensors that the nodes kept."""
    saved, freed = facts.get("saved_bytes", 0), facts.get("freed_bytes", 0)
    if not saved:
        return ""
    if not facts["freed"]:
        return f"; the graph with its {size(saved)} is kept"
    still = ", ".join(f"`{name}`" for name in facts.get("still", ()))
    rest = f"still in use{f' ({still})' if still else ''}"
    if not freed:
        return f"; the {size(saved)} that they kept are {rest}"
    if freed < saved:
        here = f"{size(freed)} are freed, {size(saved - freed)} are {rest}"
        return f"; of the {size(saved)} that they kept {here}"
    return f"; the {size(saved)} that they kept are freed"


def _step(event: EventNote, line: LineNote) -> Iterator[str]:
    facts = event.facts
    if facts.get("closure"):
        yield f"`{facts['name']}` calls the closure as often as it needs to."
    if not facts["with_grad"] and not facts.get("closure"):
        yield f"Every `.grad` is `None`: `{facts['name']}` has nothing to do."
        return
    if facts["with_grad"] < facts["of"] and not facts.get("closure"):
        left = facts["of"] - facts["with_grad"]
        words = "has no `.grad` and is" if left == 1 else "have no `.grad` and are"
        yield f"{count(left)} of {count(facts['of'])} parameters {words} left alone."
    for note in line.effects.state:
        if note.born:
            parts = ", ".join(
                f"`{key}` ({many(held, 'number')})"
                for key, held in note.born.items()
                if key != "step"
            )
            if parts:
                yield f"`{note.optimizer}` begins to remember: {parts}; {size(note.bytes)} in all."
        elif [key for key in note.changed if key != "step"]:
            parts = ", ".join(f"`{key}`" for key in note.changed if key != "step")
            yield f"Its memory moves on: {parts}."


def _item(event: EventNote, line: LineNote) -> Iterator[str]:
    facts = event.facts
    del line
    alone = "a tensor of one number" if facts["shape"] else "a scalar tensor"
    plain = alone if set(facts["shape"]) <= {1} else f"a {shape(facts['shape'])} tensor"
    name = f"`{facts['name']}`" if facts.get("name") else plain
    name = f"inside the call, {name}" if facts.get("by_library") else name
    if "value" not in facts:
        name = name if facts.get("name") else name.replace(plain, "a tensor")
        numbers = many(math.prod(facts["shape"]), "plain Python number")
        yield f"{capital(name)} becomes {numbers}."
        return
    value = f": {number(facts['value'])}"
    kind = "plain Python number"
    if facts.get("truth"):
        value, kind = f": `{bool(facts['value'])}`", "plain Python bool"
    if not str(facts["device"]).startswith("cpu"):
        waited = (
            f", after waiting {duration(facts['waited'])} for the device (the copy itself takes "
            f"{duration(facts['copied_in'])})"
            if "waited" in facts
            else ""
        )
        yield (f"{capital(name)} comes to the host as a {kind}{value}{waited}; it holds no graph.")
    else:
        yield f"{capital(name)} becomes a {kind}{value}; it holds no graph."


def _clip(event: EventNote, _: LineNote) -> Iterator[str]:
    facts = event.facts
    before, limit = facts.get("total_norm", facts.get("norm")), facts["limit"]
    if before is None:
        yield "There was no `.grad` to clip."
    elif "beyond" in facts:
        of = f"of the gradients' {many(facts['numbers'], 'number')}"
        if facts["beyond"]:
            yield f"{count(facts['beyond'])} {of} lie beyond ±{number(limit)}, and are set to that."
        else:
            yield f"None {of} lies beyond ±{number(limit)}: nothing is changed."
    elif before > limit:
        yield (
            f"The gradients' norm {number(before)} is above {number(limit)}: all are multiplied by "
            f"{number(limit / before)}."
        )
    else:
        yield f"The gradients' norm {number(before)} is within {number(limit)}: nothing is changed."


def _scale(event: EventNote, _: LineNote) -> Iterator[str]:
    if event.facts.get("enabled", True):
        scale = number(event.facts["scale"])
        if event.facts.get("autocast") == "bfloat16":
            yield (f"The loss is multiplied by {scale}, against underflow in fp16; bfloat16, which autocast "
                   "casts to here, has no need of it.")  # fmt: skip
        else:
            yield f"The loss is multiplied by {scale}, so that small gradients survive fp16."
    else:
        yield "The scaler is off: the loss stays as it is."


def _unscale(_: EventNote, line: LineNote) -> Iterator[str]:
    if line.effects.grads:
        yield "The gradients are divided by the scale again."
    else:
        yield "The gradients stay as they are."


def _mode(event: EventNote, line: LineNote) -> Iterator[str]:
    facts = event.facts
    changed = line.effects.to_train + line.effects.to_eval
    name = f"`{facts['name']}`"
    word = "train" if facts.get("training") else "eval"
    if not changed:
        yield f"{name} was in {word} mode already."
    else:
        meaning = _meaning(facts)
        yield f"{many(changed, 'module')} of {name} go to {word} mode: {meaning}."


def _meaning(facts: dict[str, Any]) -> str:
    """What the mode does to the modules that have one."""
    training = facts.get("training")
    parts = []
    if facts.get("dropouts"):
        parts.append("dropout drops" if training else "dropout is off")
    if facts.get("norms"):
        of = "this batch's" if training else "its running"
        parts.append(f"batch norm uses {of} statistics")
    return " and ".join(parts) or "none of them acts differently for it"


def _schedule(event: EventNote, line: LineNote) -> Iterator[str]:
    facts = event.facts
    if not line.effects.rates:
        name = f"`{facts['name']}`" if facts.get("name") else "It"
        yield f"{name} ({facts['kind']}) counts one more step and leaves the learning rate as it is."


def _seed(event: EventNote, _: LineNote) -> Iterator[str]:
    facts = event.facts
    name = generator(facts["generator"])
    if facts.get("by_torch"):
        return
    if facts.get("state"):
        yield f"{name} is set to the state that it is given."
    elif "seed" in facts:
        yield f"{name} starts from seed {facts['seed']}: the same draws every time."
    elif facts.get("entropy"):
        yield f"{name} starts from a seed of the system's: other draws every time."
    else:
        yield f"{name} starts from the seed that it is given: the same draws every time."


def _grad_call(event: EventNote, _: LineNote) -> Iterator[str]:
    facts = event.facts
    value = facts.get("value")
    of = f" of the loss {number(value)} for" if value is not None else " of"
    calls = facts.get("at_once", 1)
    each = f", in each of {count(calls)} calls that `vmap` makes as one" if calls > 1 else ""
    what = many(facts.get("inputs", 0), "tensor")
    yield f"Gradients{of} {what} are returned{each}; no `.grad` is written."


def _jacobian(event: EventNote, _: LineNote) -> Iterator[str]:
    name = event.facts.get("function", "")
    if name in JACOBIANS:
        yield f"`{name}` {JACOBIANS[name]}; no `.grad` is written."


def _optimizer(event: EventNote, _: LineNote) -> Iterator[str]:
    facts = event.facts
    if "settings" not in facts:
        return
    groups = f" in {many(facts['groups'], 'group')}" if facts.get("own") else ""
    yield (f"It will update {many(facts['tensors'], 'tensor')} of {many(facts['parameters'], 'number')}"
           f"{groups} ({_of_groups(facts)}); it holds references to them, "
           "and knows neither model nor loss.")  # fmt: skip


def _print(event: EventNote, _: LineNote) -> Iterator[str]:
    facts = event.facts
    lines = [one.rstrip() for one in facts["text"].splitlines() if one.strip()]
    if not lines:
        return
    shown = lines[0].strip().replace("`", "'")
    shown = f"{shown[:SHOWN]}…" if len(shown) > SHOWN else shown
    more = " and more lines" if len(lines) > 1 else ""
    yield f"It prints: `{shown}`{more}"


def _param_group(event: EventNote, _: LineNote) -> Iterator[str]:
    facts = event.facts
    yield (f"`{facts['name']}` is given a group of {many(facts['tensors'], 'parameter')}, "
           f"{many(facts['parameters'], 'number')} ({_settings(facts['settings'])}): from now on it updates "
           f"{many(facts['of'], 'tensor')} in {many(facts['groups'], 'group')}.")  # fmt: skip


def _of_groups(facts: dict[str, Any]) -> str:
    """Settings, and where groups differ in them those of each of the first ones."""
    if not facts.get("own"):
        return _settings(facts["settings"])
    own = [
        f"group {at}: {_settings(one, zeros=True)}" for at, one in enumerate(facts["own"][:GROUPS])
    ]
    more = ["…"] if len(facts["own"]) > GROUPS else []
    common = _settings(facts["common"])
    return "; ".join([*([common] if common else []), *own, *more])


def _settings(settings: dict[str, Any], *, zeros: bool = False) -> str:
    """Those that do something; a rate of 0 is worth saying."""
    return ", ".join(
        f"{key} {number(value) if not isinstance(value, list) else ', '.join(map(number, value))}"
        for key, value in settings.items()
        if value or zeros or key == "lr"
    )


GROUPS = 3
"""Of an optimizer, whose settings are told one by one."""
SHOWN = 120
"""Characters of a printed line that are told."""
JACOBIANS = {
    "jacrev": "returns the Jacobian, computed backward, a row for each number of the result",
    "jacfwd": "returns the Jacobian, computed forward, a column for each number that is given",
    "hessian": "returns the second derivatives, forward over backward",
    "vjp": "runs the function and returns another one, which multiplies by its Jacobian from the left",
    "jvp": "runs the function and multiplies its Jacobian by the tangents",
    "linearize": "runs the function and returns its linear part",
}
TELLERS: dict[str, Any] = {
    "fetch": _fetch,
    "epoch": _epoch,
    "transfer": _transfer,
    "zero_grad": _zero_grad,
    "forward": _forward,
    "loss": _loss,
    "backward": _backward,
    "step": _step,
    "item": _item,
    "clip": _clip,
    "scale": _scale,
    "unscale": _unscale,
    "mode": _mode,
    "schedule": _schedule,
    "seed": _seed,
    "generator": _seed,
    "grad": _grad_call,
    "jacobian": _jacobian,
    "optimizer": _optimizer,
    "param_group": _param_group,
    "print": _print,
}
