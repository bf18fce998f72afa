"""Turns of one loop that train, and turns of it that evaluate: ``for phase in ["train", "valid"]``.

A turn evaluates if it calls models, computes no gradients, and leaves the models that learn in eval mode.
What the coming turn will do is guessed from what the last one did that began in the same way, so that both
sorts are recorded; where the guess was wrong, the turn is moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from loopwright.explainer.follow.turns import LoopRecord, Turn

if TYPE_CHECKING:
    from loopwright.explainer.record import Recording

LEARNING = ("backward", "grad", "step")


def evaluates(model: torch.nn.Module) -> bool:
    """True for a call without gradients or in eval mode; a policy collects episodes with neither."""
    return not (torch.is_grad_enabled() and model.training)


def expected(recording: Recording, record: LoopRecord, index: int) -> LoopRecord:
    """The record that the turn which begins is expected to belong to; ``index`` is its place in its pass."""
    if not record.backwards or record.learns_in_eval:
        return record
    mode = recording.state.in_eval()
    return (
        _evaluations(recording, record)
        if record.evaluated.get((mode, index == 1), mode)
        else record
    )


def learns(recording: Recording, turn: Turn) -> None:
    """Gradients or a step happen in the turn: it trains."""
    if turn.loop is not None and turn.record is not recording.loops[turn.loop]:
        _move(turn, recording.loops[turn.loop])


def settle(recording: Recording, turn: Turn) -> None:
    """A turn is over: give it to the record that it belongs to."""
    record = turn.record
    if record.loop is None:
        return
    main = recording.loops[record.loop]
    if any(turn.count(kind) for kind in LEARNING):
        main.evaluated[turn.in_eval, turn.index == 1] = False
        main.learns_in_eval = main.learns_in_eval or recording.state.in_eval()
        if record is not main:
            _move(turn, main)
        elif record.backwards and not record.learns_in_eval:
            for one in [one for one in recording.kept if one.record is record and one.evaluated]:
                _move(one, _evaluations(recording, record))
                one.record.deep += 1
                record.deep -= 1
            turn.number = record.turns
        return
    turn.evaluated = turn.count("forward") > 0 and recording.state.in_eval()
    if turn.evaluated:
        main.evaluated[turn.in_eval, turn.index == 1] = True
    if turn.evaluated and record.backwards and not record.learns_in_eval:
        _move(turn, _evaluations(recording, record))


def _evaluations(recording: Recording, record: LoopRecord) -> LoopRecord:
    key = (record.loop, "evaluations")
    found = recording.loops.get(key)
    if found is None:
        found = LoopRecord(
            record.loop, record.source, record.function, len(recording.loops), record.inside
        )
        recording.loops[key] = found
    return found


def _move(turn: Turn, record: LoopRecord) -> None:
    before = turn.record
    for kind, count in turn.events.items():
        before.saw(kind, -count)
        record.saw(kind, count)
    before.turns -= 1
    record.turns += 1
    if turn.index == 1:
        before.entered -= 1
        record.entered += 1
    turn.record, turn.number = record, record.turns
