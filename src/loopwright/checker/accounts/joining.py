"""The account of what joins the trainings of several ranks: gradients or weights from one to another.

Where a process group was made and nothing of a model ever went through it, each rank trains a model of its
own. That may be wanted (a sweep, an ensemble, parts of a pipeline), so the account notes each sign of it, and
everything through which something could have gone that is not seen here.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch.utils.data import DistributedSampler

from loopwright.checker.accounts.data import Data, bytes_of
from loopwright.checker.accounts.optimizers import Entry, Optimizers
from loopwright.checker.accounts.parameters import Parameters
from loopwright.events import Event
from loopwright.observe import content
from loopwright.observe.sites import Site

SMALL = 0.01
"""Of the trained values: where fewer were exchanged in a whole run, no gradient was, whatever its form."""
OTHERS = (
    "mpi4py", "horovod", "deepspeed", "hivemind", "ray", "byteps", "colossalai", "megatron", "zmq", "redis",
)  # fmt: skip
"""Libraries through which ranks may talk unseen."""
OPEN = (
    "barrier",
    "all_reduce",
    "reduce",
    "broadcast",
    "all_gather",
    "all_gather_into_tensor",
    "gather",
)
"""Collectives whose values are counted; any other one may carry anything."""


class Joining:
    """The account; see the module.

    Attributes:
        place: this rank and the number of ranks, while it is in a group.
        values: how many the program's collectives have carried.
        unknown: something may have gone from rank to rank that is not counted.
        saved: the files that weights went into.
        taken: state dicts that were taken since training began; what becomes of them is not known.
    """

    def __init__(self, optimizers: Optimizers, data: Data, parameters: Parameters):
        self.optimizers = optimizers
        self.data = data
        self.parameters = parameters
        self.place: tuple[int, int] | None = None
        self.values = 0
        self.unknown = False
        self.saved: list[str] = []
        self.taken = 0
        self.prints: dict[int, int] = {}
        self._made = 0  # collectives that PyTorch had counted when the group was there
        self._called = 0
        self._first: dict[int, tuple[Any, ...]] = {}  # optimizer -> what it trains, and how
        self._model: Site | None = None
        self._dealt: dict[int, bool] = {}  # loader -> it gives this rank's share

    # -- what may join them -------------------------------------------------------------------------

    def before_group(self, event: Event) -> None:
        """The group ends."""
        if event.subject == "destroy_process_group":
            self._look()

    def after_group(self, event: Event) -> None:
        """This process has become a rank."""
        if event.subject != "init_process_group" or event.failed:
            return
        if self.place is not None or torch.distributed.get_world_size() < 2:
            self.unknown = True  # met again, or others come later
            return
        self.place = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self._made = self._counted()

    def after_wrap(self, event: Event) -> None:
        """DistributedDataParallel joins them."""
        self.unknown = True

    def after_message(self, event: Event) -> None:
        """From rank to rank: a server, a pipeline, gossip."""
        self.unknown = True

    def after_collective(self, event: Event) -> None:
        """How much went through it?"""
        self._called += 1
        if event.subject not in OPEN or event.kwargs.get("group") not in (None, _world()):
            self.unknown = True
            return
        self.values += sum(one.numel() for one in _tensors(event.kwargs.values()))

    def after_load(self, event: Event) -> None:
        """Weights may come through a file, while training."""
        self.unknown |= self.optimizers.total_steps > 0

    after_load_state_dict = after_load

    # -- what becomes of each ------------------------------------------------------------------------

    def after_state_dict(self, event: Event) -> None:
        """Somebody keeps these weights, or saves them."""
        self.taken += self.optimizers.total_steps > 0

    def after_save(self, event: Event) -> None:
        """A file was written."""
        target = event.args[1] if len(event.args) > 1 else event.kwargs.get("f")
        if not event.failed and self.optimizers.total_steps > 0:
            known = isinstance(target, (str, os.PathLike))
            self.saved.append(os.path.abspath(os.fspath(target)) if known else "")

    def after_step(self, event: Event) -> None:
        """Look at the weights, and for other ways between the ranks, at the steps number 1, 2, 4, ..."""
        if self.place is None or self.unknown:
            return
        steps = self.optimizers.total_steps
        entry = self.optimizers.of(event.subject, event)
        if entry.order not in self._first:
            self._first[entry.order] = _settings(entry)
            self.unknown |= any(_is_shared(one) for one in entry.parameters())
            self._model = self._model or self._site_of(entry)
        if content.is_power_of_two(steps):
            self.prints[steps] = _print_of(entry.parameters())
            self._look()
            self._look_at_data(self.place)

    def _look_at_data(self, place: tuple[int, int]) -> None:
        """Are they dealt out among the ranks? Samplers may be gone in the end."""
        for one in self.data.loaders.values():
            sampler = one.sampler_ref()
            if sampler is not None:
                self._dealt[id(one)] = isinstance(sampler, DistributedSampler) and place == (
                    sampler.rank, sampler.num_replicas
                )  # fmt: skip

    def _look(self) -> None:
        """Are there other groups, collectives of PyTorch's own, or other libraries?"""
        if self.place is None or self.unknown:
            return
        distributed: Any = torch.distributed
        self.unknown = (
            len(distributed.distributed_c10d._world.pg_map) > 1
            or self._counted() - self._made != self._called
            or (distributed.rpc.is_available() and distributed.rpc._is_current_rpc_agent_set())
            or any(name in sys.modules for name in OTHERS)
        )

    @staticmethod
    def _counted() -> int:
        """How many collectives PyTorch has counted in the group of all; -1 where it doesn't count."""
        try:
            return int(_world()._get_sequence_number_for_group())
        except (RuntimeError, AttributeError):
            return -1

    # -- in the end ------------------------------------------------------------------------------------

    def facts(self, *, whole: bool) -> dict[str, Any] | None:
        """What other ranks compare with, in plain values; None where this rank may have been joined.

        Args:
            whole: the program was seen to its end, and came to it by itself.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self._look()
        place, stepped = self.place, [one for one in self.optimizers.entries if one.steps]
        used = [id(one) for one in self.data.loaders.values() if one.trained]
        # Dealt out data say that one training is meant.
        dealt = bool(used) and all(self._dealt.get(one) for one in used)
        if place is None or self.unknown or not whole or not stepped or not dealt:
            return None
        main = max(stepped, key=lambda one: one.steps)
        trained = sum(count for _, _, _, shapes in self._first.values() for count in shapes)
        if self.values > SMALL * trained or main.backwards < main.watched // 2:
            return None
        return {
            "rank": place[0],
            "size": place[1],
            "steps": main.steps,
            "settings": repr(sorted(self._first.values())),
            "prints": {str(step): one for step, one in self.prints.items()},
            "saved": sorted(set(self.saved)),
            "kept": max(len(self.saved), self.taken),
            "unsaved": self.taken > len(self.saved) or "" in self.saved,
            "model": asdict(self._model.position()) if self._model is not None else None,
        }

    def _site_of(self, entry: Entry) -> Site | None:
        held = {id(one) for one in entry.parameters()}
        for root in list(self.parameters.roots.values()):
            module = root.ref()
            if module is not None and any(id(p) in held for p in module.parameters()):
                birth = self.parameters.birth_of(module)
                return birth.site if birth is not None else entry.site
        return entry.site


def _world() -> Any:
    return torch.distributed.group.WORLD


def _settings(entry: Entry) -> tuple[Any, ...]:
    shapes = tuple(one.numel() for one in entry.parameters())
    return entry.kind, tuple(sorted(entry.defaults.items())), entry.options, shapes


def _is_shared(parameter: torch.Tensor) -> bool:
    """Whether other processes hold it too, or a part of it."""
    return not content.readable(parameter) or (
        parameter.device.type == "cpu" and parameter.is_shared()
    )


def _print_of(parameters: list[torch.Tensor]) -> int:
    parts = [bytes_of(content.sample(p, 32)) for p in parameters[:16] if content.readable(p)]
    return zlib.crc32(b"".join(parts))


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
        elif isinstance(value, Mapping):
            yield from _tensors(value.values())
