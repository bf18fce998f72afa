"""A program run statement by statement by plain Python; what each statement did, counted by itself."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class Did:
    """What one statement did in one turn."""

    line: int
    text: str
    rng: set[str] = field(default_factory=set)
    to_train: int = 0
    to_eval: int = 0
    rates: list[tuple[str, float, float]] = field(default_factory=list)
    nodes: int = 0
    net: int = 0
    """Bytes of tensors that are there after it and were not before, less those that are gone."""
    highest: int = 0
    """Bytes above those of the turn's beginning, at most, while it ran."""


class Storages(TorchDispatchMode):
    """Bytes of all storages that came out of an operation and live."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.highest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor):
                storage = one.untyped_storage()
                known = self.alive.get(storage._cdata)
                if known is None or known[0].expired():
                    self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.highest = max(self.highest, self.bytes())
        return made

    def bytes(self) -> int:
        """Of those that live now."""
        self.alive = {key: one for key, one in self.alive.items() if not one[0].expired()}
        return sum(size for _, size in self.alive.values())


def nodes(space: dict[str, Any]) -> set[Any]:
    """All nodes of graphs under variables, leaves not counted."""
    found: set[Any] = set()
    waiting = [one.grad_fn for one in space.values() if isinstance(one, torch.Tensor)]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [below for below, _ in node.next_functions]
    return {node for node in found if not hasattr(node, "variable")}


def _state(space: dict[str, Any]) -> dict[str, Any]:
    optimizers = {key: one for key, one in space.items() if isinstance(one, torch.optim.Optimizer)}
    return {
        "torch": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "numpy": repr(numpy.random.get_state()),  # noqa: NPY002  the global one
        "modes": {
            id(module): module.training
            for one in space.values() if isinstance(one, nn.Module) for module in one.modules()
        },
        "rates": {
            f"{name} {key}": group[key]
            for name, one in optimizers.items() for group in one.param_groups
            for key in ("lr", "momentum", "weight_decay")
        },
        "nodes": nodes(space),
    }  # fmt: skip


def run(text: str) -> list[list[Did]]:
    """Every turn of the program's only loop, statement by statement."""
    body = ast.parse(text).body
    (loop,) = [one for one in body if isinstance(one, ast.For)]
    space: dict[str, Any] = {"__name__": "__main__"}
    storages, turns = Storages(), []
    lines = text.splitlines()

    def execute(node: ast.stmt) -> None:
        exec(compile(ast.Module([node], []), "plain", "exec"), space)

    with storages:
        for one in body[: body.index(loop)]:
            execute(one)
        items: Iterator[Any] = iter(
            eval(compile(ast.Expression(loop.iter), "plain", "eval"), space)
        )
        target = ast.parse(f"{ast.unparse(loop.target)} = __next__({{}})").body[0]
        space["__next__"] = lambda _: next(items)
        while True:
            turn, start = [], storages.bytes()
            for node in [target, *loop.body]:
                line = loop.lineno if node is target else node.lineno
                did = Did(line, lines[line - 1].strip())
                before, had, storages.highest = _state(space), storages.bytes(), 0
                try:
                    execute(node)
                except StopIteration:
                    return turns
                after = _state(space)
                did.rng = {key for key in ("torch", "python", "numpy") if before[key] != after[key]}
                for key, mode in after["modes"].items():
                    did.to_train += mode and not before["modes"].get(key, mode)
                    did.to_eval += before["modes"].get(key, mode) and not mode
                did.rates = [
                    (key, before["rates"][key], new)
                    for key, new in after["rates"].items() if before["rates"][key] != new
                ]  # fmt: skip
                did.nodes = len(after["nodes"] - before["nodes"])
                before = after = {}
                did.net = storages.bytes() - had
                did.highest = max(storages.highest, storages.bytes()) - start
                turn.append(did)
            turns.append(turn)
