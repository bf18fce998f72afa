"""The calls of modules inside one forward pass: which, with what shapes and nodes, how long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from loopwright.explainer.effects.graph import ModuleCall

if TYPE_CHECKING:
    from loopwright.explainer.record import Recording


class ModuleCalls:
    """The calls inside one root's forward, also for others who record inner calls."""

    def __init__(
        self, recording: Recording, module: torch.nn.Module, args: Sequence[Any], name: str
    ):
        self.clock = recording.time.now
        self.marks = recording.marks.calls
        self.paths = {id(one): path for path, one in module.named_modules()}
        self.made: list[ModuleCall] = []
        self.root = ModuleCall(module, args, name or type(module).__name__, None, self.clock)
        self.above = [self.root]
        self.marks.append(self.root)

    def call(self, module: torch.nn.Module, args: Sequence[Any]) -> ModuleCall:
        """A module is called inside the root."""
        while len(self.above) > 1 and self.above[-1].ended:
            self.above.pop()
        path = self.paths.get(id(module), type(module).__name__)
        made = ModuleCall(module, args, path, self.above[-1], self.clock)
        self.above.append(made)
        self.made.append(made)
        self.marks.append(made)
        return made

    def table(self, limit: int = 200) -> list[dict[str, Any]]:
        """Path, class, output shape and time of each call."""
        return [
            {"path": one.path, "kind": type(one.module).__name__, "shape": one.shape,
             "seconds": max(0, one.ended - one.began) / 1e9, "nodes": one.end - one.start}
            for one in self.made[:limit] if one.ended
        ]  # fmt: skip

    def active(self, acts: Callable[[torch.nn.Module], bool]) -> int:
        """How many called modules acted as in training, of those that ``acts`` names."""
        calls = [*self.made, self.root]
        return sum(acts(one.module) and one.module.training for one in calls)
