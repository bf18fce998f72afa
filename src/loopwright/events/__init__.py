"""The words and the plain records that everything else is made of; imports nothing of the package.

``PHASES`` are the eight phases of a training step: the rows of the timing table, the badges of the
pages, the words of the documentation. The dataclasses are what a run leaves behind in a form that
renderers read: no tensors, no torch. ``explained`` holds those of an explanation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

PHASES = ("fetch", "transfer", "zero_grad", "forward", "loss", "backward", "step", "item")
"""One step, in the order in which the hand-written loop does it."""

PHASE_OF = {
    "fetch": "fetch",
    "transfer": "transfer",
    "zero_grad": "zero_grad",
    "forward": "forward",
    "loss": "loss",
    "backward": "backward",
    "grad": "backward",
    "func_grad": "backward",
    "mapped_grad": "backward",
    "jacobian": None,
    "functional_call": "forward",
    "step": "step",
    "item": "item",
    "format": "item",
    "write": None,
    "multiply": None,
    "add": None,
    "clip": None,
    "scale": None,
    "unscale": None,
    "scaler_step": None,
    "scheduler": None,
    "schedule": None,
    "mode": None,
    "module": None,
    "init": None,
    "copied": None,
    "optimizer": None,
    "param_group": None,
    "state_dict": None,
    "load_state_dict": None,
    "load_optimizer": None,
    "optimizer_state": None,
    "dropout": None,
    "epoch": None,
    "seed": None,
    "generator_state": None,
    "generator": None,
    "load": None,
    "save": None,
    "wrap": None,
    "collective": None,
    "message": None,
    "group": None,
}
"""Every kind of event that can be observed, and the phase that it is part of."""


@dataclass(slots=True, eq=False)
class Event:
    """One thing that an observed program did. ``before_KIND`` listeners see it without a result.

    ``site`` is a code object and an instruction offset (``observe.sites``), resolved to a line only for
    a message. ``subject`` is what was called: the optimizer, the module, the loader, the loss. What is
    held here is the program's own; a listener that keeps an event keeps tensors alive.
    """

    kind: str
    site: Any
    number: int
    subject: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    result: Any = None
    failed: bool = False
    """The call raised; ``result`` is None."""
    name: str = ""
    """Of a tensor's method, where several are of one kind."""


OutcomeKind = Literal["running", "finished", "stopped", "interrupted", "failed"]


Severity = Literal["error", "warning", "hint"]


@dataclass(slots=True)
class Place:
    """A piece of a source file; lines and columns count from 1, ``note`` says what is there."""

    file: str
    line: int
    column: int = 1
    end_line: int = 0
    end_column: int = 0
    note: str = ""


@dataclass(slots=True)
class Finding:
    """One mistake, reported once, at the line that a person would edit."""

    rule: str
    severity: Severity
    place: Place
    message: str
    """What happened, with the values that were seen, in one sentence."""
    evidence: list[str] = field(default_factory=list)
    """Further things that were seen, each a sentence."""
    why: str = ""
    """Why it matters, in one clause."""
    fix: str = ""
    """What to write instead."""
    count: int = 1
    related: list[Place] = field(default_factory=list)
    sites: dict[str, Place] = field(default_factory=dict)
    """Further places by their part in it ("backward", "step"), for a fix."""
    ranks: list[int] = field(default_factory=list)


@dataclass(slots=True)
class ProgramEnd:
    """How an observed program ended."""

    command: list[str] = field(default_factory=list)
    exit_code: int = 0
    exception: str | None = None


@dataclass(slots=True)
class CheckRecord:
    """Everything that a report about one check is made of."""

    findings: list[Finding] = field(default_factory=list)
    program: ProgramEnd = field(default_factory=ProgramEnd)
    events: dict[str, int] = field(default_factory=dict)
    """How many events of each kind were seen, all processes together."""
    steps: int = 0
    processes: int = 0
    suppressed: int = 0
    files: list[str] = field(default_factory=list)
    """The program's own files that took part."""
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Series:
    """One curve: ``y[i]`` was seen at turn ``x[i]`` (1-based, counted over the whole run)."""

    name: str
    x: list[int] = field(default_factory=list)
    y: list[float] = field(default_factory=list)


@dataclass(slots=True)
class EpochRow:
    """What one epoch came to. ``turn`` is the run's turn count at its end."""

    epoch: int
    turn: int
    seconds: float
    values: dict[str, float] = field(default_factory=dict)
    loop: str = "0"


@dataclass(slots=True)
class PhaseTime:
    """Host seconds spent in one phase over the whole run (see ``PHASES``)."""

    name: str
    seconds: float


@dataclass(slots=True)
class LayerRow:
    """One module of the model: its path, class, output shape (None where it was not run), parameters."""

    name: str
    kind: str
    output_shape: list[int] | None
    parameters: int
    trainable: int
    depth: int = 0


@dataclass(slots=True)
class ModelSummary:
    """The model in rows; ``flops`` of one sample's forward pass (a multiply-add is two), None if unknown."""

    name: str
    rows: list[LayerRow]
    parameters: int
    trainable: int
    bytes: int
    flops: int | None = None


@dataclass(slots=True)
class Worst:
    """A sample that the model got most wrong. ``image`` is a data URI of a PNG, ``text`` a line of text."""

    index: int
    target: str
    predicted: str
    probability: float
    loss: float
    image: str | None = None
    text: str | None = None


@dataclass(slots=True)
class Classification:
    """Confusion matrix (``counts[target][predicted]``) and the worst samples of one labelled data set."""

    split: str
    classes: list[str]
    counts: list[list[int]]
    worst: list[Worst] = field(default_factory=list)


@dataclass(slots=True)
class CheckpointRow:
    """One checkpoint in the folder."""

    name: str
    turn: int
    bytes: int
    reason: str = ""


@dataclass(slots=True)
class Outcome:
    """How a run ended; ``running`` while it has not."""

    kind: OutcomeKind = "running"
    reason: str = ""
    seconds: float = 0.0
    error: str | None = None


@dataclass(slots=True)
class Part:
    """One file or checkpoint of a run's folder, and how it was found.

    ``sound``: every byte is what was written (hash). ``readable``: whole, and it carries no hash.
    ``damaged``: ``says`` tells why. ``passing``: a crash or a running write left it; it does no harm.
    """

    name: str
    state: Literal["sound", "readable", "damaged", "passing"]
    bytes: int = 0
    says: str = ""


@dataclass(slots=True)
class Verification:
    """What ``verify`` found in a run's folder."""

    folder: str
    outcome: str
    parts: list[Part]
    resume: str
    """What the same command would do, as a sentence."""
    resumes_from: str | None = None
    in_use: str | None = None

    @property
    def damaged(self) -> list[Part]:
        """The parts that are not what was written."""
        return [part for part in self.parts if part.state == "damaged"]


@dataclass(kw_only=True, slots=True)
class RunRecord:
    """Everything that a page about one run is made of."""

    name: str
    folder: str | None = None
    command: list[str] = field(default_factory=list)
    started: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    lr_of: str = ""
    """Whose learning rate is recorded, where the optimizers' groups do not begin with the same."""
    recipe: dict[str, Any] | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = field(default_factory=Outcome)
    totals: dict[str, float] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    epochs: list[EpochRow] = field(default_factory=list)
    best: dict[str, dict[str, float]] = field(default_factory=dict)
    phases: list[PhaseTime] = field(default_factory=list)
    model: ModelSummary | None = None
    classifications: list[Classification] = field(default_factory=list)
    checkpoints: list[CheckpointRow] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)
    concluded: bool = False
    """Whether what comes after the last loop (a test of the best weights) was done."""
    notes: list[str] = field(default_factory=list)
