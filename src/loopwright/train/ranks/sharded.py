"""A run whose models are sharded over the ranks by FSDP2: nobody holds them whole.

Each rank writes its parts into a file of its own. Whoever reads a checkpoint joins them: any number of
ranks, DDP, and one process alone. Weights that are kept by themselves (best, final) are gathered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from loopwright.errors import UsageError
from loopwright.parallel import sharding
from loopwright.parallel.apart import agreed_seed
from loopwright.parallel.world import World
from loopwright.train import prepare
from loopwright.train.data.source import Source
from loopwright.train.process import allocator
from loopwright.train.ranks.lending import NotLent, lent, without_data
from loopwright.train.ranks.parts import OverRanks
from loopwright.train.ranks.shards import split
from loopwright.train.ranks.source import SharedSource
from loopwright.train.update.stepper import Stepper

if TYPE_CHECKING:
    from loopwright.train.run import Run


class Sharded(OverRanks):
    """The parts of a run on one rank, with FSDP2."""

    shards = True
    largest_kept = allocator.SMALL_BLOCK

    def __init__(self, world: World, settings: Mapping[str, Any]):
        super().__init__(world, settings)
        self.replicas = sharding.replicas_of(self._keywords.pop("replicas", 1), world)
        self.writers = world.size // self.replicas

    def place(self, models: dict[str, nn.Module], device: torch.device, optimizer: Any) -> None:
        """Shard the models, in place, and let optimizers that were made before hold the shards.

        What the program has sharded itself stays as it is.
        """
        if sharding.is_in(models):
            self.replicas = max(sharding.adopt(model, self.world) for model in models.values())
            self.writers = self.world.size // self.replicas
            return
        before = {
            key: dict(model.named_parameters(remove_duplicate=False))
            for key, model in models.items()
        }
        seed = agreed_seed(self.world)
        for model in models.values():
            sharding.shard(
                model, self.world, device, seed=seed, replicas=self.replicas, **self._keywords
            )
        new: dict[Tensor, Tensor] = {}
        for key, model in models.items():
            for name, parameter in model.named_parameters(remove_duplicate=False):
                new[before[key][name]] = parameter
        for name, given in prepare.named(optimizer, "optimizer")[0].items():
            if isinstance(given, torch.optim.Optimizer):
                sharding.point_to(given, new, name)

    def stepper(self, optimizers: dict[str, torch.optim.Optimizer], **rest: Any) -> Stepper:  # type: ignore[override]
        """Return the stepper of this rank; those that look at each weight by itself can be sharded."""
        for name, optimizer in optimizers.items():
            if isinstance(optimizer, torch.optim.LBFGS):
                kept = optimizer.param_groups[0]["history_size"]
                raise UsageError(
                    f"{name} is an LBFGS: it joins all gradients into one vector, which sharded ones "
                    f"cannot be, and would keep up to {2 * kept} such vectors whole on each rank",
                    slug="not-sharded", hint="parallel='ddp'",
                )  # fmt: skip
        return super().stepper(optimizers, **rest)

    def wrap(
        self, given: Mapping[str, nn.Module], models: dict[str, nn.Module], device: torch.device
    ) -> dict[str, nn.Module]:
        """Return the models; FSDP2 is in them."""
        del given, device
        assert self._stepper is not None
        self._stepper.averages, self._stepper.replicas = False, self.replicas
        return models

    @contextmanager
    def evaluating(self, run: Run, source: Source) -> Iterator[None]:
        """Let a rank without a batch call the models along with the others, for nothing."""
        assert isinstance(source, SharedSource)

        def lend(value: Any, lender: int) -> Any:
            try:
                return run.transfer.receive(run.transfer.send(lent(value, lender, self.world)))
            except NotLent as why:
                raise without_data("what they call the model with", why, self.world) from None

        source.calls = sharding.Calls(list(run.models.values()), lend)
        try:
            with super().evaluating(run, source):
                yield
        finally:
            source.calls.release()
            source.calls = None

    def whole(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Gather weights; every rank has to ask."""
        return {name: sharding.whole(value) for name, value in weights.items()}

    def parted(self, model: nn.Module, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Return this rank's parts of whole weights."""
        now = model.state_dict()
        return {
            name: sharding.part_like(value, now[name]) if name in now else value
            for name, value in weights.items()
        }

    def split_state(self, state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor], int]:
        """Return a state with placeholders, copies of this rank's parts, and the bytes of all ranks'."""
        return split(state)

    def parted_state(self, run: Run, state: dict[str, Any]) -> dict[str, Any]:
        """Return a state with this rank's parts of models and optimizers."""
        models = {
            key: self.parted(run.models[key], weights) if key in run.models else weights
            for key, weights in state["models"].items()
        }
        optimizers = {}
        for key, one in state["optimizers"].items():
            optimizers[key] = one
            if key in run.optimizers:
                groups = run.optimizers[key].param_groups
                held = [parameter for group in groups for parameter in group["params"]]
                named = {
                    number: {
                        name: sharding.part_like(value, held[number]) for name, value in own.items()
                    }
                    for number, own in one["state"].items()
                }
                optimizers[key] = {**one, "state": named}
        made = {**state, "models": models, "optimizers": optimizers}
        if run.ema is not None and state["ema"] is not None:
            made["ema"] = {**state["ema"], "average": self._parted_average(run, state["ema"])}
        return made

    def _parted_average(self, run: Run, ema: Mapping[str, Any]) -> dict[str, Any]:
        held = {
            f"{key}.{name}": parameter
            for key, model in run.models.items()
            for name, parameter in model.named_parameters()
        }
        return {
            name: sharding.part_like(value, held[name]) if name in held else value
            for name, value in ema["average"].items()
        }
