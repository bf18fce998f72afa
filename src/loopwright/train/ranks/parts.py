"""The classes that a run is made of where it is one rank among several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from loopwright.errors import UsageError
from loopwright.events import Classification, Worst
from loopwright.parallel import current, wrapping
from loopwright.parallel.world import World
from loopwright.train import prepare
from loopwright.train.data.source import Source
from loopwright.train.folder.writing import RunFolder
from loopwright.train.lifecycle import Lifecycle
from loopwright.train.loop import Loop
from loopwright.train.parts import Alone
from loopwright.train.process.signals import Signals
from loopwright.train.ranks.folder import FolderOverRanks
from loopwright.train.ranks.lifecycle import BoundaryOverRanks, LifecycleOverRanks
from loopwright.train.ranks.loop import LoopOverRanks
from loopwright.train.ranks.signals import SignalsOverRanks
from loopwright.train.ranks.source import SharedSource
from loopwright.train.ranks.stepper import StepperOverRanks
from loopwright.train.state.boundary import Boundary
from loopwright.train.update.stepper import Stepper

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopwright.train.run import Run


class OverRanks(Alone):
    """The parts of a run on one rank.

    Args:
        world: the ranks.
        settings: the ``strategy`` and the keywords of its wrapper.

    Attributes:
        writers: ranks that write a part of a checkpoint, where parts are sharded.
        wish: why this rank wants the loop to end, until all know.
    """

    shards = False
    loop: type[Loop] = LoopOverRanks
    lifecycle: type[Lifecycle] = LifecycleOverRanks
    boundary: type[Boundary] = BoundaryOverRanks
    signals: type[Signals] = SignalsOverRanks
    folder: type[RunFolder] = FolderOverRanks

    def __init__(self, world: World, settings: Mapping[str, Any]):
        self.world = world
        self.rank = world.rank
        self.size = world.size
        self.is_first = world.is_first
        self.facts = {"ranks": world.size}
        self.writers = world.size
        self.wish: str | None = None
        self._keywords = {k: v for k, v in settings.items() if k != "strategy"}
        self._stepper: StepperOverRanks | None = None

    def first_does(self, do: Callable[[], Any]) -> Any:
        """Let the first rank do something; what it returned (JSON) is returned on every rank."""
        return self.world.first_does(do)

    def pick_device(self, device: str | torch.device) -> torch.device:
        """Return this rank's device: accelerators are dealt out by the local rank."""
        kind = None if device == "cpu" else torch.accelerator.current_accelerator()
        plain = device == "auto" or (kind is not None and str(device) == kind.type)
        if kind is None or not plain or not torch.accelerator.is_available():
            return prepare.pick_device(device)
        count = torch.accelerator.device_count()
        if self.world.local_rank >= count:
            raise UsageError(
                f"local rank {self.world.local_rank} has no {kind.type} device: this machine has {count}",
                slug="too-few-devices", hint=f'--nproc-per-node {count}, or device="cpu"',
            )  # fmt: skip
        torch.accelerator.set_device_index(self.world.local_rank)
        return torch.device(kind.type, self.world.local_rank)

    def bare(self, models: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
        """Return the modules inside of DDP, where the program has wrapped them itself."""
        return {name: wrapping.bare(module) for name, module in models.items()}

    def stepper(self, optimizers: dict[str, torch.optim.Optimizer], **rest: Any) -> Stepper:  # type: ignore[override]
        """Return the stepper of this rank."""
        self._stepper = StepperOverRanks(optimizers, **rest)
        self._stepper.world = self.world
        return self._stepper

    def wrap(
        self, given: Mapping[str, nn.Module], models: dict[str, nn.Module], device: torch.device
    ) -> dict[str, nn.Module]:
        """Return the modules to call while training, with the first rank's weights in all of them.

        One model with one optimizer is wrapped in DDP. Of several, some may rest in a turn, which DDP
        does not allow: their gradients are averaged when the update comes.
        """
        assert self._stepper is not None
        its_own = any(isinstance(module, wrapping.DDP) for module in given.values())
        if its_own or (len(models) == 1 and len(self._stepper.windows) == 1):
            self._stepper.averages = False
            return {
                name: wrapping.wrap(module, device, self._keywords)
                for name, module in given.items()
            }
        for module in models.values():
            self.world.take_firsts([*module.parameters(), *module.buffers()])
        return models

    def source(self, loader: Any, **rest: Any) -> Source:
        """Return this rank's share."""
        return SharedSource(loader, world=self.world, **rest)

    def source_of_loop(self, run: Run, name: str, loader: Any, **rest: Any) -> Source:
        """Return this rank's share, with as many turns as the others have."""
        del run, name
        return self.source(loader, even=True, **rest)

    @contextmanager
    def evaluating(self, run: Run, source: Source) -> Iterator[None]:
        """Call the bare modules, all with the first rank's buffers (of the average, where it is in)."""
        assert isinstance(source, SharedSource)
        for model in run.models.values():
            self.world.take_firsts(list(model.buffers()))
        before, run.callables, source.seen = run.callables, run.models, 0
        padding, current.PADDING = current.PADDING, False
        try:
            yield
        finally:
            run.callables, current.PADDING = before, padding
            if run.active is not None:
                run.active.values.weight = float(source.seen)  # type: ignore[attr-defined]

    def of_all(self, found: Classification) -> Classification:
        """Return the counts of all ranks, and the worst samples among them."""
        told = [one for one in self.world.exchange(asdict(found)) if one["counts"]]
        if not told:
            return found
        counts = [
            [sum(cell) for cell in zip(*rows, strict=True)]
            for rows in zip(*(one["counts"] for one in told), strict=True)
        ]
        worst = [Worst(**row) for one in told for row in one["worst"]]
        worst.sort(key=lambda row: -row.loss)
        most = max(len(one["worst"]) for one in told)
        return Classification(found.split, told[0]["classes"], counts, worst[:most])

    def split_state(self, state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor], int]:
        """Return a state, and what each rank writes of it by itself: its parts, and the bytes of all."""
        return state, {}, 0

    def parted_state(self, run: Run, state: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return a state with what this rank holds of it."""
        return state

    def stop(self, run: Run, reason: str) -> None:
        """Wish that the loop ends; it does when all ranks know."""
        if run.stopped is None:
            self.wish = reason
