"""Fixes of losses: a softmax or a sigmoid that is taken twice, shapes that spread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import libcst as cst

from loopwright.checker.fixes.edits import Edit, Replace
from loopwright.checker.fixes.source import Source

if TYPE_CHECKING:
    from loopwright.checker.fixes.propose import Program
    from loopwright.events import Finding


def double_softmax(program: Program, _: Finding) -> list[Edit] | None:
    """Leave the softmax out, where only one can be it: a result, or the last layer."""
    found: list[Edit] = []
    for source in program.sources():
        found += _final_softmaxes(source)
    return found if len(found) == 1 else None


def _final_softmaxes(source: Source) -> Iterator[Edit]:
    layers = {}
    for one in source.all(cst.Assign):
        if isinstance(one.value, cst.Call) and _name(one.value.func) == "Softmax":
            layers[source.code(one.targets[0].target)] = one
    for call in source.all(cst.Call):
        name = _name(call.func)
        if name == "Softmax" and isinstance(source.parent(call), cst.Arg):
            outer = source.parent(source.parent(call))
            if not isinstance(outer, cst.Call) or _name(outer.func) != "Sequential":
                continue
            if outer.args[-1] is source.parent(call) and len(outer.args) > 1:
                *args, last, gone = outer.args
                end = {"comma": gone.comma, "whitespace_after_arg": gone.whitespace_after_arg}
                args.append(last.with_changes(**end))
                yield Replace(source, outer, outer.with_changes(args=args))
        elif name == "softmax" and _is_result(source, call):
            inner = _softmaxed(source, call)
            if inner is not None:
                yield Replace(source, call, inner)
        elif source.code(call.func) in layers and len(call.args) == 1 and _is_result(source, call):
            yield Replace(source, call, call.args[0].value)


def _softmaxed(source: Source, call: cst.Call) -> cst.BaseExpression | None:
    """``x`` of ``F.softmax(x, 1)`` and of ``x.softmax(1)``."""
    if isinstance(call.func, cst.Name):
        return call.args[0].value if call.args else None
    assert isinstance(call.func, cst.Attribute)
    if source.code(call.func.value) in (
        "F",
        "torch",
        "nn.functional",
        "torch.nn.functional",
        "functional",
    ):
        return call.args[0].value if call.args else None
    return call.func.value


def _is_result(source: Source, call: cst.Call) -> bool:
    """It is returned, or it is the variable that the next line returns."""
    statement = source.statement(call)
    if isinstance(statement, cst.Return):
        return statement.value is call
    if not isinstance(statement, cst.Assign) or statement.value is not call:
        return False
    block = source.statements(source.suite(statement))
    after = block[block.index(statement) + 1 :][:1]
    return (
        bool(after)
        and isinstance(after[0], cst.Return)
        and after[0].value is not None
        and source.code(after[0].value) == source.code(statement.targets[0].target)
    )


def double_sigmoid(program: Program, finding: Finding) -> list[Edit] | None:
    """The loss for probabilities: what else reads the model's output goes on getting probabilities."""
    source, made = program.call(finding.sites.get("made"))
    names = {"BCEWithLogitsLoss": "BCELoss"}
    if made is None or _name(made.func) not in names:
        source, made = program.call(finding.place)
        names = {"binary_cross_entropy_with_logits": "binary_cross_entropy"}
    if source is None or made is None or not isinstance(made.func, cst.Attribute):
        return None
    new = names.get(made.func.attr.value)
    if new is None or any(one.keyword and one.keyword.value == "pos_weight" for one in made.args):
        return None
    return [Replace(source, made.func.attr, cst.Name(new))]


def loss_broadcast(program: Program, finding: Finding) -> list[Edit] | None:
    """The target in the shape of the prediction, where both are variables."""
    source, call = program.call(finding.place)
    if (
        source is None
        or call is None
        or len(call.args) < 2
        or any(one.keyword for one in call.args[:2])
    ):
        return None
    prediction, target = call.args[0].value, call.args[1].value
    if not isinstance(prediction, cst.Name | cst.Attribute) or not isinstance(
        target, cst.Name | cst.Attribute
    ):
        return None
    shaped = cst.Call(cst.Attribute(target, cst.Name("view_as")), [cst.Arg(prediction)])
    return [Replace(source, target, shaped)]


def _name(function: Any) -> str:
    """``Softmax`` of ``nn.Softmax``."""
    if isinstance(function, cst.Attribute):
        return function.attr.value
    return function.value if isinstance(function, cst.Name) else ""


FIXES = {
    "double-softmax": double_softmax,
    "double-sigmoid": double_sigmoid,
    "loss-broadcast": loss_broadcast,
}
