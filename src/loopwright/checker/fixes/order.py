"""Fixes of the order of the step: what is cleared, clipped, stepped, scheduled, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from loopwright.checker.fixes.edits import Edit, Insert, Move, Replace
from loopwright.checker.fixes.source import Source, receiver

if TYPE_CHECKING:
    from loopwright.checker.fixes.propose import Program
    from loopwright.events import Finding


def missing_zero_grad(program: Program, finding: Finding) -> list[Edit] | None:
    """Clear before the only backward pass of the step's block, else after the step."""
    source, step = program.call(finding.place)
    optimizer = _stepped(step)
    if source is None or step is None or optimizer is None:
        return None
    line = f"{source.code(optimizer)}.zero_grad()"
    _, backward = program.call(finding.sites.get("backward"), source)
    if backward is not None and source.beside(backward, step) and _only_one(source, backward, step):
        return [Insert(source, line, source.statement(backward), before=True)]
    return [Insert(source, line, source.statement(step), before=False)]


def _stepped(step: cst.Call | None) -> cst.BaseExpression | None:
    """The optimizer of ``opt.step()``, and of ``scaler.step(opt)``."""
    found = receiver(step, "step")
    if step is not None and len(step.args) == 1 and step.args[0].keyword is None:
        return step.args[0].value
    return found if step is not None and not step.args else None


def _only_one(source: Source, backward: cst.Call, step: cst.Call) -> bool:
    """True when the block has one backward pass between the step before and this one."""
    passes = 0
    for statement in source.statements(source.suite(source.statement(step))):
        if statement is source.statement(step):
            return passes == 1 and source.position(backward) < source.position(step)
        if source.calls(statement, "step"):
            passes = 0
        passes += len(source.calls(statement, "backward"))
    return False


def zero_grad_after_backward(program: Program, finding: Finding) -> list[Edit] | None:
    """Clear before the backward pass if it stands in the same block, else after the step."""
    source, zero = program.call(finding.place)
    if source is None or zero is None:
        return None
    for role, before in (("backward", True), ("step", False)):
        _, anchor = program.call(finding.sites.get(role), source)
        if anchor is not None and source.beside(zero, anchor):
            return _moved(source, zero, anchor, before=before)
    return None


def gradients_discarded(program: Program, finding: Finding) -> list[Edit] | None:
    """Clear where the step is, when that is in the same loop."""
    source, zero = program.call(finding.place)
    _, step = program.call(finding.sites.get("step"), source)
    if source is None or zero is None or step is None:
        return None
    ours, theirs = source.loops(zero), source.loops(step)
    if not ours or not theirs or ours[0] is not theirs[0]:
        return None
    return _moved(source, zero, step, before=False)


def step_before_backward(program: Program, finding: Finding) -> list[Edit] | None:
    """Step after the backward pass of the same block."""
    source, step = program.call(finding.place)
    _, backward = program.call(finding.sites.get("backward"), source)
    if source is None or step is None or backward is None or not source.beside(step, backward):
        return None
    return _moved(source, step, backward, before=False)


def clip_misplaced(program: Program, finding: Finding) -> list[Edit] | None:
    """Clip just before the step."""
    source, clip = program.call(finding.place)
    _, step = program.call(finding.sites.get("step"), source)
    if source is None or clip is None or step is None:
        return None
    if source.function(clip) is not source.function(step):
        return None
    return _moved(source, clip, step, before=True)


def clip_without_unscale(program: Program, finding: Finding) -> list[Edit] | None:
    """``scaler.unscale_(opt)`` before the clipping, as ``scaler.step(opt)`` names them."""
    source, clip = program.call(finding.place)
    _, step = program.call(finding.sites.get("step"), source)
    scaler = receiver(step, "step")
    if source is None or clip is None or step is None or scaler is None or len(step.args) != 1:
        return None
    if source.function(clip) is not source.function(step):
        return None
    line = f"{source.code(scaler)}.unscale_({source.code(step.args[0].value)})"
    return [Insert(source, line, source.statement(clip), before=True)]


def unneeded_retain_graph(program: Program, finding: Finding) -> list[Edit] | None:
    """Leave the argument out."""
    source, backward = program.call(finding.place)
    if source is None or backward is None:
        return None
    kept = [
        one for one in backward.args if not (one.keyword and one.keyword.value == "retain_graph")
    ]
    if len(kept) == len(backward.args):
        return None
    if kept:
        kept[-1] = kept[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
    return [Replace(source, backward, backward.with_changes(args=kept))]


def scheduler_before_optimizer(program: Program, finding: Finding) -> list[Edit] | None:
    """Step the schedule after the statement, of the same block, in which the optimizer steps."""
    source, schedule = program.call(finding.place)
    _, step = program.call(finding.sites.get("step"), source)
    if source is None or schedule is None or step is None:
        return None
    met = source.meeting(schedule, step)
    if met is None or met[0] is not source.statement(schedule):
        return None
    if source.position(met[0]) > source.position(met[1]):
        return None
    return [Move(source, met[0], met[1], before=False)]


def scheduler_wrong_frequency(program: Program, finding: Finding) -> list[Edit] | None:
    """Step the schedule after the loop over batches, or, where it counts batches, after the optimizer."""
    source, schedule = program.call(finding.place)
    _, step = program.call(finding.sites.get("step"), source)
    if source is None or schedule is None or step is None:
        return None
    ours, theirs = source.loops(schedule), source.loops(step)
    statement = source.statement(schedule)
    if len(theirs) > len(ours) > 0 and ours == theirs[-len(ours) :]:
        if source.suite(statement) is not ours[0].body:
            return None
        return [Move(source, statement, source.statement(step), before=False)]
    if len(ours) < 2 or source.suite(statement) is not ours[0].body or ours[0] not in theirs:
        return None
    return [Move(source, statement, ours[0], before=False)]


def _moved(source: Source, what: Any, where: Any, *, before: bool) -> list[Edit] | None:
    """One statement beside another; nothing where they are one, or the call is not a statement's whole."""
    statement, anchor = source.statement(what), source.statement(where)
    if statement is anchor or not isinstance(statement, cst.Expr | cst.Assign):
        return None
    return [Move(source, statement, anchor, before=before)]


FIXES = {
    "missing-zero-grad": missing_zero_grad,
    "zero-grad-after-backward": zero_grad_after_backward,
    "gradients-discarded": gradients_discarded,
    "step-before-backward": step_before_backward,
    "clip-misplaced": clip_misplaced,
    "clip-without-unscale": clip_without_unscale,
    "unneeded-retain-graph": unneeded_retain_graph,
    "scheduler-before-optimizer": scheduler_before_optimizer,
    "scheduler-wrong-frequency": scheduler_wrong_frequency,
}
