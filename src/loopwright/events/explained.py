"""The plain records that an explanation is made of: what each statement did to tensors in each recorded step.

Numbers are what torch computed; sentences are made from them later. ``facts`` of an event depend on its
kind and are listed in ``docs/explain-json.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from loopwright.events import Finding, ProgramEnd

GradChange = Literal["written", "accumulated", "cleared", "zeroed", "scaled", "replaced", "changed"]
LoopKind = Literal["training", "gradients", "evaluation", "forward", "plain"]


@dataclass(slots=True)
class TensorNote:
    """One tensor as it was after a statement. Norm, extremes, zeros and not-finite counts are exact."""

    name: str
    shape: list[int]
    dtype: str
    device: str
    bytes: int
    requires_grad: bool = False
    leaf: bool = True
    node: str = ""
    """Name of its ``grad_fn``; empty for a leaf."""
    retains: bool = False
    """No leaf, but asked to keep its gradient."""
    root: bool = False
    """A backward pass began with it."""
    grad: float | None = None
    """Norm of ``.grad``; None where it is None."""
    norm: float | None = None
    low: float | None = None
    high: float | None = None
    nonfinite: int = 0
    zeros: int = 0
    values: list[float] = field(default_factory=list)
    """All of them, where there are at most eight."""
    mean: float | None = None
    std: float | None = None
    histogram: list[int] = field(default_factory=list)
    sampled: int = 0
    """How many elements mean, deviation and histogram are from."""
    at_once: int = 1
    """How many of them ``torch.func.vmap`` computes as one; their values are not read."""


@dataclass(slots=True)
class EventNote:
    """One call that is part of a step, at its place in the source."""

    kind: str
    line: int
    column: int
    end_line: int
    end_column: int
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class GradNote:
    """What happened to ``.grad`` of ``count`` tensors; ``of`` are in the same modules or optimizers."""

    change: GradChange
    count: int
    of: int
    before: float | None
    """Norm of all their gradients together; None where they were None."""
    after: float | None
    names: list[str] = field(default_factory=list)
    numbers: int = 0
    values: list[float] = field(default_factory=list)
    """The gradient itself, where it is that of one tensor of at most four numbers."""
    sparse: list[int] = field(default_factory=list)
    """How many are sparse, how many rows these hold, and of how many rows."""


@dataclass(slots=True)
class ParameterNote:
    """How far ``count`` parameters moved, of the ``of`` that their modules or optimizers hold."""

    count: int
    of: int
    delta: float
    """Norm of the change of all of them together."""
    norm: float
    """Norm of all of them before."""
    largest: str
    largest_delta: float
    numbers: int
    exact: bool = True
    how: str = ""
    """Where it is not exact: what it was computed from."""
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    """The numbers themselves, where one tensor of at most four moved."""
    by: str = ""
    """The class of the optimizer in whose own lines they move."""


@dataclass(slots=True)
class StateNote:
    """What an optimizer's state gained or changed."""

    optimizer: str
    born: dict[str, int] = field(default_factory=dict)
    """Name -> how many numbers it holds, all parameters together."""
    bytes: int = 0
    changed: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RateNote:
    """A hyperparameter of an optimizer's group that changed."""

    optimizer: str
    group: int
    name: str
    before: float
    after: float


@dataclass(slots=True)
class Effects:
    """What a statement changed."""

    grads: list[GradNote] = field(default_factory=list)
    parameters: list[ParameterNote] = field(default_factory=list)
    state: list[StateNote] = field(default_factory=list)
    rates: list[RateNote] = field(default_factory=list)
    buffers: dict[str, float] = field(default_factory=dict)
    """Name -> norm of the change."""
    frozen: list[int] = field(default_factory=list)
    learning: list[int] = field(default_factory=list)
    """Set to require no gradient, or to require one: how many tensors, of how many numbers."""
    to_train: int = 0
    to_eval: int = 0
    """How many modules changed their mode."""
    rng: list[str] = field(default_factory=list)
    """Generators that were drawn from: torch, cuda, python, numpy."""
    seeded: list[str] = field(default_factory=list)
    """Generators that were seeded."""
    seeds: dict[str, int] = field(default_factory=dict)
    """Of those that no call is known of: generator -> its seed."""
    restored: list[str] = field(default_factory=list)
    """Generators that were set to a state that was given, or that they had had before."""
    nodes: int = 0
    """Autograd nodes made."""
    made: int = 0
    made_bytes: int = 0
    freed: int = 0
    freed_bytes: int = 0


@dataclass(slots=True)
class LineNote:
    """One statement in one step."""

    file: int
    line: int
    end_line: int
    visits: int = 1
    seconds: float = 0.0
    """With everything that it called."""
    own_seconds: float = 0.0
    """Without other statements of the program that it called."""
    calls: list[int] = field(default_factory=list)
    """Lines of the program's own statements that ran inside it, as numbers of ``StepNote.lines``."""
    grad_mode: bool = True
    events: list[EventNote] = field(default_factory=list)
    effects: Effects = field(default_factory=Effects)
    tensors: list[TensorNote] = field(default_factory=list)
    objects: list[dict[str, Any]] = field(default_factory=list)
    """Modules, optimizers, loaders and schedulers that it made."""
    further: int = 0
    """Tensors of a container that it assigned, beyond ``tensors``."""
    phases: list[str] = field(default_factory=list)
    called_from: str = ""
    """``"file:line"`` of the call, of one of several ``parts``."""
    parts: list[LineNote] = field(default_factory=list)
    """The same by the call that led there, where several lines of the step call its function."""
    sentences: list[str] = field(default_factory=list)
    """What it did, in words."""
    ranks: dict[str, list[str]] = field(default_factory=dict)
    """Of other ranks: rank -> what it said of itself that this one did not."""


@dataclass(slots=True)
class GroupNote:
    """A module in a graph: how many nodes it made and what they saved, those of modules inside included."""

    path: str
    kind: str
    parent: int
    nodes: int
    bytes: int


@dataclass(slots=True)
class GraphNote:
    """The autograd graph under a loss, as it was before its backward pass."""

    line: int
    nodes: int
    leaves: int
    saved_bytes: int
    """Of tensors that its nodes saved, not parameters or buffers; a storage that backward freed is whole."""
    saved_tensors: int
    freed_bytes: int = 0
    """Of the storages that were gone when backward returned: nothing else held them."""
    value: float | None = None
    freed: bool = True
    by_line: dict[str, list[int]] = field(default_factory=dict)
    """``"file:line"`` -> nodes made there, bytes saved there."""
    groups: list[GroupNote] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    node_name: list[int] = field(default_factory=list)
    node_group: list[int] = field(default_factory=list)
    node_line: list[int] = field(default_factory=list)
    """Numbers of ``places``."""
    places: list[str] = field(default_factory=list)
    node_bytes: list[int] = field(default_factory=list)
    edges: list[list[int]] = field(default_factory=list)
    """``[from, to]``: backward goes from ``from`` to ``to``."""
    left_out: int = 0


@dataclass(slots=True)
class RuleNote:
    """The update of one weight, written out; ``computed`` by us in float64, ``after`` by torch."""

    optimizer: str
    name: str
    index: list[int]
    before: float
    grad: float
    after: float
    computed: float
    agrees: bool
    steps: list[str] = field(default_factory=list)
    """The equations with their numbers, one a line."""
    symbols: list[str] = field(default_factory=list)
    """The same with their names."""
    values: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class WhatIf:
    """One change, and what came of it on copies."""

    name: str
    title: str
    values: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class StepNote:
    """One recorded turn of a loop."""

    loop: int
    number: int
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    lines: list[LineNote] = field(default_factory=list)
    memory: list[list[int]] = field(default_factory=list)
    """``[number in lines, bytes, nanoseconds]``: bytes allocated since the step began, over time."""
    graphs: list[GraphNote] = field(default_factory=list)
    kept_bytes: int = 0
    """The most that its graphs kept for backward at one time."""
    alone_bytes: int = 0
    """The most that they alone held at one time: what was gone with them."""
    rules: list[RuleNote] = field(default_factory=list)
    brief: list[list[str]] = field(default_factory=list)
    """The step in one view: phase, ``"file:line"``s with commas, what happened in a few words."""
    whatifs: list[WhatIf] = field(default_factory=list)
    not_replayed: str = ""
    """Why there are no what-ifs."""
    left_out: list[str] = field(default_factory=list)
    """What-ifs that were not asked, each with the reason."""
    ranks: dict[str, list[float]] = field(default_factory=dict)
    """Rank -> its losses, where there are several."""


@dataclass(slots=True)
class LoopNote:
    """One loop of the program; ``line`` 0 is one that a library drives."""

    name: str
    kind: LoopKind
    file: int
    """-1 where a library drives it."""
    line: int
    end_line: int
    function: str
    library: str = ""
    """The library's file."""
    turns: int = 0
    entered: int = 0
    inside: int | None = None
    """The loop whose turns it runs in."""
    optimizers: list[str] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    """Where in its losses each time begins that it was entered."""


@dataclass(slots=True)
class Advice:
    """Something that would make a step faster; ``gain`` is a share of the step's time."""

    title: str
    line: int
    file: int
    gain: float
    how: Literal["measured", "computed"]
    detail: str
    code: str = ""


@dataclass(slots=True)
class SpanNote:
    """One call in the timeline of a step; seconds since the step began, on its lane's clock."""

    lane: Literal["host", "device"]
    phase: str
    line: int
    began: float
    seconds: float
    waited: float = 0.0
    """Of them, waiting for the device."""


@dataclass(slots=True)
class SeldomNote:
    """What happens now and then, in a few of the timed turns: a validation, a checkpoint."""

    turns: int
    """In how many."""
    seconds: float
    """Each time, on average."""
    phases: dict[str, float] = field(default_factory=dict)
    lines: dict[str, float] = field(default_factory=dict)
    """``"file:line"`` -> seconds each time."""


@dataclass(slots=True)
class TimingNote:
    """Where a step goes: medians over turns that were timed and not otherwise recorded."""

    loop: int
    turns: int
    seconds: float
    phases: dict[str, float] = field(default_factory=dict)
    lines: dict[str, float] = field(default_factory=dict)
    """``"file:line"`` -> seconds a step, without what it called."""
    device: dict[str, float] = field(default_factory=dict)
    """Phase -> seconds from its beginning to its end in a GPU's queue, where one is used."""
    waits: dict[str, list[float]] = field(default_factory=dict)
    """Phase -> seconds of waiting for the device in calls that wait for it, and of copying after that."""
    timeline: list[SpanNote] = field(default_factory=list)
    """Of the step whose time is nearest to the median."""
    recorded: bool = False
    """From turns that were recorded in full, which takes longer."""
    seldom: list[SeldomNote] = field(default_factory=list)
    """What is not part of ``seconds``, ``phases`` and ``lines``, the most costly first."""
    advice: list[Advice] = field(default_factory=list)


@dataclass(slots=True)
class FileNote:
    """One source file of the program; ``statements`` are ``[first line, last line]``."""

    path: str
    text: str
    statements: list[list[int]] = field(default_factory=list)


@dataclass(slots=True)
class ModelNote:
    """A model and what it holds."""

    name: str
    kind: str
    modules: int
    parameters: int
    trainable: int
    bytes: int
    tensors: int
    buffers: int


@dataclass(kw_only=True, slots=True)
class ExplainRecord:
    """Everything that a page about one program is made of."""

    title: str = ""
    files: list[FileNote] = field(default_factory=list)
    loops: list[LoopNote] = field(default_factory=list)
    setup: list[LineNote] = field(default_factory=list)
    steps: list[StepNote] = field(default_factory=list)
    timings: list[TimingNote] = field(default_factory=list)
    models: list[ModelNote] = field(default_factory=list)
    optimizers: list[dict[str, Any]] = field(default_factory=list)
    losses: dict[str, list[float]] = field(default_factory=dict)
    """Loop number -> the loss of each of its first turns."""
    environment: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    glossary: list[dict[str, str]] = field(default_factory=list)
    program: ProgramEnd = field(default_factory=ProgramEnd)
    rank: int | None = None
    processes: int = 1
    stopped: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class LineChange:
    """A statement that stands in both programs, or in one of them, and does not do the same in both."""

    change: Literal["gone", "new", "does", "numbers"]
    """Stands only before; stands only after; does something else; does the same with other numbers."""
    text_before: str = ""
    text_after: str = ""
    line_before: int = 0
    line_after: int = 0
    file: str = ""
    loop: str = ""
    """Empty outside of loops."""
    step: int = 0
    """The first recorded step in which it differs; 0 outside of steps."""
    follows: bool = False
    """Only numbers differ, and only after a step that other lines made different."""
    before: list[str] = field(default_factory=list)
    """Sentences that hold before, and no longer."""
    after: list[str] = field(default_factory=list)
    events_before: list[str] = field(default_factory=list)
    """Kinds of events that happened there before, and no longer."""
    events_after: list[str] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class DifferenceRecord:
    """Two explanations side by side: what the lines of the second do that those of the first did not."""

    before: str = ""
    after: str = ""
    lines: list[LineChange] = field(default_factory=list)
    facts: list[list[str]] = field(default_factory=list)
    """Rows of numbers: what, before, after."""
    same: int = 0
    """Statements that do the same in every recorded step."""
    notes: list[str] = field(default_factory=list)
