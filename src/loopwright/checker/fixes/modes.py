"""Fixes of modes: ``eval()`` before a measurement, ``train()`` before training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from loopwright.checker.fixes.edits import Edit, Insert, Replace
from loopwright.checker.fixes.source import LOOPS, Source

if TYPE_CHECKING:
    from loopwright.checker.fixes.propose import Program
    from loopwright.events import Finding


def eval_in_train_mode(program: Program, finding: Finding) -> list[Edit] | None:
    """``model.eval()`` before what measures, and ``model.train()`` before what trains on."""
    source, measured = program.call(finding.place)
    there, trained = program.call(finding.sites.get("train"))
    if source is None or measured is None or there is None or trained is None:
        return None
    evaluate, train = f"{source.code(measured.func)}.eval()", f"{there.code(trained.func)}.train()"
    together = source is there and source.function(measured) is source.function(trained)
    if not together:
        return [
            Insert(source, evaluate, _in_function(source, measured), before=True),
            *_once(there, train, _before_a_pass(there, trained), before=True),
        ]
    met = source.meeting(measured, trained)
    if met is None:
        return None
    measures, trains = _into_branch(source, met[0], measured), met[1]
    edits: list[Edit] = [Insert(source, evaluate, measures, before=True)]
    if source.loops(measures):
        if isinstance(trains, LOOPS):
            edits += _once(source, train, trains, before=True)
        elif not isinstance(measures, cst.Return):
            edits.append(Insert(source, train, measures, before=False))
    return edits


def train_in_eval_mode(program: Program, finding: Finding) -> list[Edit] | None:
    """``model.train()`` before what trains, where each round comes by."""
    source, trained = program.call(finding.place)
    if source is None or trained is None:
        return None
    train = f"{source.code(trained.func)}.train()"
    _, switched = program.call(finding.sites.get("eval"), source)
    _, measured = program.call(finding.sites.get("measured"), source)
    for other in (switched, measured):
        if other is not None and source.function(other) is source.function(trained):
            met = source.meeting(other, trained)
            return None if met is None else [Insert(source, train, met[1], before=True)]
    if source.function(trained) is not None and not source.loops(trained):
        return [Insert(source, train, _in_function(source, trained), before=True)]
    loops = source.loops(trained)
    if not loops:
        return None
    # The loop over batches, inside that over epochs; a single loop is that over batches of a function.
    return [Insert(source, train, loops[-2] if len(loops) > 1 else loops[0], before=True)]


def functional_dropout_in_eval(program: Program, finding: Finding) -> list[Edit] | None:
    """The rate or ``training`` by the module's mode, inside a method."""
    source, call = program.call(finding.place)
    function = source.function(call) if source is not None and call is not None else None
    if source is None or call is None or function is None or not function.params.params:
        return None
    first = function.params.params[0].name.value
    if not isinstance(source.parent(source.parent(function)), cst.ClassDef):
        return None
    mode = cst.Attribute(cst.Name(first), cst.Name("training"))
    name = source.code(call.func).rpartition(".")[2]
    if name == "scaled_dot_product_attention":
        plain = [one for one in call.args if one.keyword is None and not one.star]
        named = [one for one in call.args if one.keyword and one.keyword.value == "dropout_p"]
        for rate in named or plain[4:5]:
            chosen = cst.IfExp(body=rate.value, test=mode, orelse=cst.Float("0.0"))
            return [Replace(source, rate.value, chosen)]
    if "dropout" not in name or any(one.star for one in call.args):
        return None  # an own name for it, which may take other arguments
    added = cst.Arg(
        mode,
        keyword=cst.Name("training"),
        equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
    )
    args = [*call.args[:-1], call.args[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT), added]
    return [Replace(source, call, call.with_changes(args=args))]


def _in_function(source: Source, node: cst.CSTNode) -> Any:
    """The statement that holds a node directly in its function's block, or directly in the module."""
    function = source.function(node)
    block = function.body if function is not None else source.module
    return next(statement for suite, statement in source.chain(node) if suite is block)


def _before_a_pass(source: Source, trained: Any) -> Any:
    """Where training goes on after a measurement by another function, which may come between two epochs.

    With one loop alone the function itself is called for each epoch.
    """
    loops = source.loops(trained)
    return loops[-2] if len(loops) > 1 else _in_function(source, trained)


def _into_branch(source: Source, statement: Any, node: cst.CSTNode) -> Any:
    """Inside ``if step % 100 == 0:`` rather than before it."""
    chain = dict(source.chain(node))
    while isinstance(statement, cst.If) and statement.body in chain:
        statement = chain[statement.body]
    return statement


def _once(source: Source, code: str, anchor: Any, *, before: bool) -> list[Edit]:
    """Put it in, unless it stands somewhere before the anchor in its block already."""
    for one in source.statements(source.suite(anchor)):
        if one is anchor:
            break
        if isinstance(one, cst.BaseSmallStatement) and source.code(one).strip("; ") == code:
            return []
    return [Insert(source, code, anchor, before=before)]


FIXES = {
    "eval-in-train-mode": eval_in_train_mode,
    "train-in-eval-mode": train_in_eval_mode,
    "functional-dropout-in-eval": functional_dropout_in_eval,
}
