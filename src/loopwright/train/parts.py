"""What a run is made of: the classes of one process that trains alone, or of one rank among several.

A program that trains alone imports nothing of ``parallel`` and does nothing more than before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from loopwright.errors import UsageError
from loopwright.events import Classification
from loopwright.train import prepare
from loopwright.train.data.source import Source
from loopwright.train.folder.writing import RunFolder
from loopwright.train.lifecycle import Lifecycle
from loopwright.train.loop import Loop
from loopwright.train.process import allocator
from loopwright.train.process.signals import Signals
from loopwright.train.state.boundary import Boundary
from loopwright.train.update.stepper import Stepper

if TYPE_CHECKING:
    from loopwright.train.run import Run


class Alone:
    """The parts of a run in one process."""

    rank = 0
    size = 1
    is_first = True
    facts: Mapping[str, Any] = {}
    largest_kept = allocator.LARGEST_BLOCK
    loop: type[Loop] = Loop
    boundary: type[Boundary] = Boundary
    lifecycle: type[Lifecycle] = Lifecycle
    signals: type[Signals] = Signals
    folder: type[RunFolder] = RunFolder

    def first_does(self, do: Callable[[], Any]) -> Any:
        """Do something that one process does for all."""
        return do()

    def pick_device(self, device: str | torch.device) -> torch.device:
        """Return the device to train on."""
        return prepare.pick_device(device)

    def bare(self, models: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
        """Return the modules that hold the weights."""
        return dict(models)

    def stepper(self, optimizers: dict[str, torch.optim.Optimizer], **rest: Any) -> Stepper:
        """Return what does the updates."""
        return Stepper(optimizers, **rest)

    def place(self, models: dict[str, nn.Module], device: torch.device, optimizer: Any) -> None:  # noqa: ARG002
        """Bring the models to the device, in place."""
        for module in models.values():
            module.to(device)

    def whole(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Return a model's weights whole, where a process holds a part of them only."""
        return dict(weights)

    def parted(self, model: nn.Module, weights: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return what this process holds of whole weights."""
        return dict(weights)

    def wrap(
        self,
        given: Mapping[str, nn.Module],  # noqa: ARG002
        models: dict[str, nn.Module],
        device: torch.device,  # noqa: ARG002
    ) -> dict[str, nn.Module]:
        """Return the modules that are called while training."""
        return models

    def source(
        self, loader: Any, *, sharded: bool = False, even: bool = False, **rest: Any
    ) -> Source:
        """Return where batches come from; all of the loader's."""
        del sharded, even
        return Source(loader, **rest)

    def source_of_loop(self, run: Run, name: str, loader: Any, **rest: Any) -> Source:
        """Return where a loop's batches come from; what ranks have begun goes on in the order of theirs."""
        saved = None if rest["sharded"] else run.lifecycle.saved_of(name)
        if saved is None or "share" not in saved["loop"]["source"]:
            return self.source(loader, even=True, **rest)
        from loopwright.train.ranks.source import after_ranks

        return after_ranks(loader, **rest)

    def evaluating(self, run: Run, source: Source) -> AbstractContextManager[None]:  # noqa: ARG002
        """Return what an evaluation stands in."""
        return nullcontext()

    def of_all(self, found: Classification) -> Classification:
        """Return what was counted in all processes."""
        return found

    def stop(self, run: Run, reason: str) -> None:
        """End the loop after this turn."""
        run.stopped = reason


ALONE = Alone()


def parts_of_a_run(parallel: str | Mapping[str, Any], model: Any = None) -> Alone:
    """Return the parts that this process's runs are made of; meets the other ranks, where there are.

    Args:
        parallel: as ``Run`` takes it.
        model: as ``Run`` takes it; one that is sharded already decides by itself.
    """
    settings = dict(parallel) if isinstance(parallel, Mapping) else {"strategy": parallel}
    settings.setdefault("strategy", "ddp")
    if settings["strategy"] not in ("ddp", "fsdp"):
        raise UsageError(
            f"parallel is 'ddp' or 'fsdp', got {settings['strategy']!r}", slug="unknown-parallel",
            hint="parallel={'strategy': 'ddp', 'find_unused_parameters': True} for its keywords",
        )  # fmt: skip
    if os.environ.get("WORLD_SIZE", "1") == "1" and not _is_met():
        return ALONE
    from loopwright.parallel import group, sharding

    limit_s = settings.pop("timeout_s", None)
    sharded = sharding.is_in(model)
    world = group.join(limit_s, also_alone=sharded)
    if world is None:
        return ALONE
    if settings["strategy"] == "fsdp" or sharded:
        from loopwright.train.ranks.sharded import Sharded

        return Sharded(world, settings)
    from loopwright.train.ranks.parts import OverRanks

    return OverRanks(world, settings)


def _is_met() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
