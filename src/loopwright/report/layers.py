"""The model's modules as rows that fold."""

from __future__ import annotations

from dataclasses import dataclass

from loopwright.events import ModelSummary
from loopwright.report.formats import MISSING

ROWS_SHOWN = 400
OPEN_ROWS = 24


@dataclass(slots=True)
class LayerView:
    """One visible module row; ``parent`` rows can be folded, ``hidden`` ones start folded away."""

    name: str
    path: str
    kind: str
    shape: str
    parameters: int
    frozen: str
    share: float
    depth: int
    parent: bool
    open: bool
    hidden: bool


def layers(model: ModelSummary) -> tuple[list[LayerView], int]:
    """The rows to show and how many were left out: the deepest modules go first."""
    rows = model.rows
    deepest = max((row.depth for row in rows), default=0)
    while len(rows) > ROWS_SHOWN and deepest > 0:
        rows = [row for row in rows if row.depth < deepest]
        deepest -= 1
    rows = rows[:ROWS_SHOWN]
    open_depth = deepest
    while open_depth > 1 and sum(row.depth <= open_depth for row in rows) > OPEN_ROWS:
        open_depth -= 1
    views = []
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        views.append(
            LayerView(
                name=row.name.rpartition(".")[2] or row.name or model.name,
                path=row.name or model.name,
                kind=row.kind,
                shape=" × ".join(str(n) for n in row.output_shape) if row.output_shape else MISSING,
                parameters=row.parameters,
                frozen=_frozen(row.parameters, row.trainable),
                share=row.parameters / model.parameters if model.parameters else 0.0,
                depth=min(row.depth, 12),
                parent=after is not None and after.depth > row.depth,
                open=row.depth < open_depth,
                hidden=row.depth > open_depth,
            )
        )
    return views, len(model.rows) - len(rows)


def _frozen(parameters: int, trainable: int) -> str:
    if not parameters or trainable >= parameters:
        return ""
    return "frozen" if trainable == 0 else "partly frozen"
