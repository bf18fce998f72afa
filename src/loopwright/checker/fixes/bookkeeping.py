"""Fixes of what is kept and counted: losses with graphs, the best state, the sampler's epoch, the rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from loopwright.checker.fixes.edits import Edit, Import, Insert, Replace
from loopwright.checker.fixes.source import Source

if TYPE_CHECKING:
    from loopwright.checker.fixes.propose import Program
    from loopwright.events import Finding


def loss_graph_retained(program: Program, finding: Finding) -> list[Edit] | None:
    """``.detach()`` on what is added to the sum or put into the list: the value stays on its device."""
    source = program.source(finding.place.file)
    statement = source.small_statement(finding.place.line) if source is not None else None
    if source is None or statement is None or "held" not in finding.sites:
        return None
    added: cst.BaseExpression | None = None
    if isinstance(statement, cst.AugAssign) and isinstance(statement.operator, cst.AddAssign):
        added = statement.value
    elif isinstance(statement, cst.Assign) and isinstance(statement.value, cst.BinaryOperation):
        total, sum_ = source.code(statement.targets[0].target), statement.value
        if isinstance(sum_.operator, cst.Add):
            sides = [one for one in (sum_.left, sum_.right) if source.code(one) != total]
            added = sides[0] if len(sides) == 1 else None
    elif isinstance(statement, cst.Expr) and isinstance(statement.value, cst.Call):
        call = statement.value
        if isinstance(call.func, cst.Attribute) and call.func.attr.value in ("append", "add"):
            added = call.args[0].value if len(call.args) == 1 else None
    if added is None or isinstance(added, cst.Tuple | cst.List | cst.Dict | cst.Set):
        return None
    return [Replace(source, added, _method(added, "detach"))]


def _method(value: cst.BaseExpression, name: str) -> cst.Call:
    if (
        not isinstance(value, cst.Name | cst.Attribute | cst.Call | cst.Subscript)
        and not value.lpar
    ):  # type: ignore[attr-defined]
        value = value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return cst.Call(cst.Attribute(value, cst.Name(name)))


def best_state_aliased(program: Program, finding: Finding) -> list[Edit] | None:
    """A deep copy of the state dict."""
    source, call = program.call(finding.place)
    taken = call.func if call is not None else None
    if (
        source is None
        or call is None
        or getattr(taken, "attr", cst.Name("_")).value != "state_dict"
    ):
        return None
    known = _imported(source)
    if known.get("deepcopy") == "copy.deepcopy":
        function: cst.BaseExpression = cst.Name("deepcopy")
    elif known.get("copy", "copy") == "copy":
        function = cst.Attribute(cst.Name("copy"), cst.Name("deepcopy"))
    else:
        return None  # the name stands for something else here
    edits: list[Edit] = [Replace(source, call, cst.Call(function, [cst.Arg(call)]))]
    if isinstance(function, cst.Attribute) and "copy" not in known:
        edits.append(Import(source, "copy"))
    return edits


def _imported(source: Source) -> dict[str, str]:
    """Names that imports bind, and what they stand for."""
    found: dict[str, str] = {}
    for line in source.all(cst.Import):
        for one in line.names:
            name = source.code(one.name)
            found[one.evaluated_alias or name.partition(".")[0]] = (
                name if one.evaluated_alias else name.partition(".")[0]
            )
    for line in source.all(cst.ImportFrom):
        if not isinstance(line.names, cst.ImportStar) and line.module is not None:
            for one in line.names:
                name = f"{source.code(line.module)}.{one.evaluated_name}"
                found[one.evaluated_alias or one.evaluated_name] = name
    return found


def set_epoch(program: Program, finding: Finding) -> list[Edit] | None:
    """``loader.sampler.set_epoch(epoch)`` before the loop over batches, with the outer loop's variable."""
    source = program.source(finding.place.file)
    if source is None:
        return None
    loops = [
        one for one in source.all(cst.For) if source.position(one.iter)[0] == finding.place.line
    ]
    if len(loops) != 1:
        return None
    loader = loops[0].iter
    while isinstance(loader, cst.Call) and isinstance(loader.func, cst.Name) and loader.args:
        loader = loader.args[0].value  # enumerate, a progress bar
    around = next((one for one in source.loops(loops[0]) if isinstance(one, cst.For)), None)
    if around is None or not isinstance(around.target, cst.Name) or isinstance(loader, cst.Call):
        return None
    counted = around.iter.func if isinstance(around.iter, cst.Call) else None
    if not isinstance(counted, cst.Name) or counted.value not in ("range", "trange"):
        return None
    line = f"{source.code(loader)}.sampler.set_epoch({around.target.value})"
    return [Insert(source, line, loops[0], before=True)]


def lr_assignment(program: Program, finding: Finding) -> list[Edit] | None:
    """The rate of every parameter group instead of an attribute that nobody reads."""
    source = program.source(finding.place.file)
    statement = source.small_statement(finding.place.line) if source is not None else None
    if source is None or not isinstance(statement, cst.Assign) or len(statement.targets) != 1:
        return None
    target = statement.targets[0].target
    line = source.parent(statement)
    if not isinstance(target, cst.Attribute) or len(getattr(line, "body", ())) != 1:
        return None
    if not isinstance(line, cst.SimpleStatementLine):
        return None
    optimizer, name = source.code(target.value), target.attr.value
    body = f'group["{name}"] = {source.code(statement.value)}'
    loop = cst.parse_statement(
        f"for group in {optimizer}.param_groups:\n{source.module.default_indent}{body}\n",
        config=source.module.config_for_parsing,
    )
    return [Replace(source, line, loop.with_changes(leading_lines=line.leading_lines))]


FIXES = {
    "loss-graph-retained": loss_graph_retained,
    "best-state-aliased": best_state_aliased,
    "ddp-missing-set-epoch": set_epoch,
    "lr-assignment-ignored": lr_assignment,
}
