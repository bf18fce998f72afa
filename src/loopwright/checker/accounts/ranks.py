"""The rank account: what each process of a distributed training holds, for comparison when all have ended."""

from __future__ import annotations

import dataclasses
import os
import weakref
import zlib
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from loopwright.checker.accounts.data import Data, bytes_of, hash_of
from loopwright.checker.accounts.optimizers import Optimizers
from loopwright.checker.accounts.parameters import Parameters
from loopwright.events import Event
from loopwright.observe import content
from loopwright.observe.collectives import REDUCING
from loopwright.observe.sites import Site, caller_outside


class Wrapped:
    """One DistributedDataParallel module of this process."""

    def __init__(self, module: nn.Module, site: Site, number: int):
        self.ref = weakref.ref(module)
        inner = module.module
        assert isinstance(inner, nn.Module)
        self.inside = {id(one) for one in inner.modules()}
        self.site = site
        self.number = number
        self.forwards = 0
        self.backwards_without = 0
        """Backward passes that filled its parameters, no forward of the wrapper before."""
        self.inner_calls: dict[Site, int] = {}
        self.backward_site: Site | None = None
        self.prints: dict[int, int] = {}
        """Optimizer steps -> a number made of sampled parameter values."""


class Ranks:
    """The account; see the module."""

    def __init__(self, optimizers: Optimizers, data: Data, parameters: Parameters):
        self.optimizers = optimizers
        self.parameters = parameters
        self.reduced: Site | None = None
        """Where a module was made whose gradients the program reduces itself."""
        self.prints: dict[int, int] = {}
        """Of that module: optimizer steps -> a number made of sampled parameter values."""
        self.data = data
        self.wrapped: list[Wrapped] = []
        self.collectives_in_training = 0
        self.rank: int | None = None
        self.fetches = 0
        self.batches: list[int] = []
        self.sampler: str | None = None
        self.loader_site: Site | None = None

    def after_wrap(self, event: Event) -> None:
        """A model was wrapped for many ranks."""
        if not event.failed and isinstance(event.subject, DistributedDataParallel):
            self.rank = rank()  # at the end the process group is gone
            self.wrapped.append(Wrapped(event.subject, event.site, event.number))

    def before_forward(self, event: Event) -> None:
        """Through the wrapper, or past it?"""
        for one in self.wrapped:
            if one.ref() is event.subject:
                one.forwards += 1
            elif id(event.subject) in one.inside and torch.is_grad_enabled():
                where = caller_outside(one.inside) or event.site
                one.inner_calls[where] = one.inner_calls.get(where, 0) + 1

    def before_backward(self, event: Event) -> None:
        """Note gradients that no wrapper's forward prepared."""
        if not self.wrapped:
            return
        for one in self.wrapped:
            module = one.ref()
            if module is None or one.forwards or not one.inner_calls:
                continue
            one.backward_site = event.site
            one.backwards_without += 1

    def after_collective(self, event: Event) -> None:
        """Reduced by hand, after a backward pass that went past the wrapper."""
        if event.subject not in REDUCING:
            return
        self.collectives_in_training += any(one.backwards_without for one in self.wrapped)
        if self.reduced is None and not self.wrapped and isinstance(event.args[0], torch.Tensor):
            self._by_hand(event.args[0])

    def _by_hand(self, tensor: torch.Tensor) -> None:
        """A gradient of some optimizer's is reduced: whose is it?"""
        for entry in self.optimizers.live():
            for parameter in entry.parameters():
                if parameter.grad is None or parameter.grad.data_ptr() != tensor.data_ptr():
                    continue
                for root in list(self.parameters.roots.values()):
                    module = root.ref()
                    if module is not None and any(p is parameter for p in module.parameters()):
                        birth = self.parameters.birth_of(module)
                        self.reduced = birth.site if birth is not None else entry.site
                        self.rank = rank()
                        return

    def after_fetch(self, event: Event) -> None:
        """The first batches of this rank."""
        if event.failed or self.fetches >= 8 or not _rank_known():
            return
        self.fetches += 1
        digest = hash_of(event.result)
        if digest is not None:
            self.batches.append(digest)
            loader = self.data.current
            if loader is not None:
                self.sampler, self.loader_site = loader.sampler, loader.sites[0]

    def after_step(self, event: Event) -> None:
        """Sample the wrapped parameters at the steps number 1, 2, 4, ..."""
        steps = self.optimizers.total_steps
        if self.reduced is not None and content.is_power_of_two(steps):
            held = self.optimizers.of(event.subject, event).parameters()
            self.prints[steps] = _print_of(held)
        if self.wrapped and content.is_power_of_two(steps):  # the same steps on every rank
            for one in self.wrapped:
                module = one.ref()
                if module is not None:
                    one.prints[steps] = _print_of(list(module.parameters()))


def _print_of(parameters: list[torch.Tensor]) -> int:
    """A number made of sampled values."""
    parts = [bytes_of(content.sample(p, 32)) for p in parameters[:16] if content.readable(p)]
    return zlib.crc32(b"".join(parts))


def _rank_known() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank() -> int | None:
    """This process's rank, if it is one of several."""
    if _rank_known() and torch.distributed.get_world_size() > 1:
        return int(torch.distributed.get_rank())
    value = os.environ.get("RANK")
    return int(value) if value and os.environ.get("WORLD_SIZE", "1") != "1" else None


def rank_facts(ranks: Any) -> dict[str, Any]:
    """What other ranks compare with, in plain values."""
    return {
        "rank": ranks.rank,
        "batches": list(ranks.batches),
        "sampler": ranks.sampler,
        "loader": _plain_place(ranks.loader_site),
        "wrapped": _plain_place(ranks.wrapped[0].site if ranks.wrapped else ranks.reduced),
        "prints": [
            {str(k): v for k, v in prints.items()}
            for prints in ([one.prints for one in ranks.wrapped] or [ranks.prints])
            if prints
        ],
    }


def _plain_place(site: Site | None) -> dict[str, Any] | None:
    return dataclasses.asdict(site.position()) if site is not None else None
