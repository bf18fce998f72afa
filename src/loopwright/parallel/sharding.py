"""FSDP2: a rank holds a part of each weight, gradient and optimizer state, and gathers a block to use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from loopwright.errors import UsageError
from loopwright.parallel.apart import seeded
from loopwright.parallel.torchrun import ranks_of_a_machine
from loopwright.parallel.world import World


def shard(
    module: nn.Module, world: World, device: torch.device, *, seed: int,
    blocks: Sequence[str] | None = None, replicas: int = 1, **keywords: Any,
) -> None:  # fmt: skip
    """Shard a module over all ranks, in place, block by block; its Parameter objects are replaced.

    What is on the meta device is made block by block, by each layer's ``reset_parameters``, the same on
    every rank; everything else becomes the first rank's.

    Args:
        module: its class becomes an ``FSDPModule``.
        world: the ranks.
        device: where the shards live.
        seed: for what is on the meta device; the same on every rank.
        blocks: patterns of the names of the modules that are gathered by themselves; None: the items of
            every outermost ``nn.ModuleList``.
        replicas: groups of ranks that hold the whole together; the ranks of a group follow one another.
        keywords: of ``torch.distributed.fsdp.fully_shard``.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    each = world.size // replicas
    shape, names = (
        ((each,), ("shard",)) if replicas == 1 else ((replicas, each), ("replicate", "shard"))
    )
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=names)
    # The root too: between turns every parameter is then the sharded one, also after a forward alone.
    settings: dict[str, Any] = {"mesh": mesh, "reshard_after_forward": True, **keywords}
    with seeded(seed):
        for block in [*_blocks(module, blocks), module]:
            _materialise(block, device)
            world.take_firsts(_own(block))
            fully_shard(block, **settings)


def is_in(model: Any) -> bool:
    """Whether the program has sharded a model (or one of a dict of them) itself."""
    models = model.values() if isinstance(model, Mapping) else [model]
    return any(
        is_sharded(p) for one in models if isinstance(one, nn.Module) for p in one.parameters()
    )


def adopt(module: nn.Module, world: World) -> int:
    """Take a module as the program has sharded it; returns how many replicas there are.

    Raises:
        UsageError: a part of it is whole, or it is sharded in another way than FSDP2 does.
    """
    from torch.distributed.fsdp import FSDPModule

    if not isinstance(module, FSDPModule):
        raise UsageError(
            f"fully_shard was called for parts of the {type(module).__name__} and not for the whole: the "
            "gradients of the rest would stay each rank's own",
            slug="partly-sharded", hint="fully_shard(model) after fully_shard(layer) for each layer",
        )  # fmt: skip
    held: Any = [p for p in module.parameters() if is_sharded(p)]
    layouts = {(p.device_mesh, p.placements) for p in held}
    for mesh, placements in layouts:
        *before, last = placements
        in_order = mesh.mesh.flatten().tolist() == list(range(world.size))
        if not (in_order and last.is_shard() and all(one.is_replicate() for one in before)):
            raise UsageError(
                f"the {type(module).__name__} is sharded as {placements} over {mesh.size()} of {world.size} "
                "ranks; a run knows FSDP2 over all ranks, in their order, and replicas of it",
                slug="sharded-otherwise", hint='parallel="fsdp" shards a model that is whole',
            )  # fmt: skip
    # Between turns every parameter is the sharded one, also after a forward alone.
    module.set_reshard_after_forward(True, recurse=False)
    return max(mesh.size() // mesh.size(mesh.ndim - 1) for mesh, _ in layouts)


def replicas_of(wanted: Any, world: World) -> int:
    """Return how many groups of ranks hold the whole model: a number, or one on each machine.

    Raises:
        UsageError: the ranks can't be dealt out so.
    """
    number = world.size // ranks_of_a_machine(world.size) if wanted == "machines" else wanted
    if isinstance(number, bool) or not isinstance(number, int) or number < 1 or world.size % number:
        raise UsageError(
            f"replicas={wanted!r} with {world.size} ranks: each replica needs as many ranks as the others",
            slug="replicas", hint='a divisor of the number of ranks, or "machines"',
        )  # fmt: skip
    return number


def _own(module: nn.Module) -> list[Tensor]:
    """Return parameters and buffers that are not sharded yet."""
    return [t for t in [*module.parameters(), *module.buffers()] if not is_sharded(t)]


def _blocks(module: nn.Module, patterns: Sequence[str] | None) -> list[nn.Module]:
    if patterns is None:
        return [item for several in _outermost(module) for item in several]
    named = dict(module.named_modules())
    names = [name for name in named if name and any(fnmatchcase(name, p) for p in patterns)]
    if not names:
        raise UsageError(
            f"blocks={list(patterns)!r} are the names of no modules",
            slug="pattern-unmatched", hint='for example "layers.*"; None takes every nn.ModuleList\'s items',
        )  # fmt: skip
    return [named[name] for name in names]


def _outermost(module: nn.Module) -> Iterator[nn.ModuleList]:
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from _outermost(child)


def _materialise(module: nn.Module, device: torch.device) -> None:
    for name, part in module.named_modules():
        own = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        if not any(t.is_meta for t in own):
            for tensor in [t for t in own if not is_sharded(t)]:
                tensor.data = tensor.data.to(device)
            continue
        reset: Any = getattr(part, "reset_parameters", None)
        if not callable(reset):
            raise UsageError(
                f"{name or type(module).__name__} ({type(part).__name__}) is on the meta device and has no "
                "reset_parameters()",
                slug="meta-without-reset", hint="write one, which fills its weights and buffers",
            )  # fmt: skip
        part.to_empty(device=device, recurse=False)
        reset()


def is_sharded(tensor: Any) -> bool:
    """Whether a tensor is a ``DTensor``."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Any) -> Any:
    """Return a sharded tensor whole, gathered from all ranks (a collective call); others as they are."""
    return tensor.detach().full_tensor() if is_sharded(tensor) else tensor


def part_like(tensor: Any, like: Any) -> Any:
    """Return this rank's part of a whole tensor, sharded as ``like`` is; nothing is sent."""
    if not is_sharded(like) or not isinstance(tensor, Tensor) or is_sharded(tensor):
        return tensor
    if tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    here = tensor.to(like.device)
    return distribute_tensor(here, like.device_mesh, like.placements, src_data_rank=None)


def point_to(
    optimizer: torch.optim.Optimizer, new: Mapping[Tensor, Tensor], name: str
) -> None:  # fmt: skip
    """Let the groups of an optimizer that was built before sharding hold the sharded parameters.

    Raises:
        UsageError: it has state, which belongs to the whole ones.
    """
    if optimizer.state:
        raise UsageError(
            f"{name} has stepped before the model was sharded: its state is that of whole weights",
            slug="optimizer-has-state", hint="optimizer=lambda params: torch.optim.AdamW(params, lr=…)",
        )  # fmt: skip
    for group in optimizer.param_groups:
        group["params"] = [new.get(parameter, parameter) for parameter in group["params"]]


class Calls:
    """The calls of sharded modules in one batch's turn, made again by a rank that has to keep step.

    Each part that is gathered by itself is one: the program may call ``run.model.encoder``, or a method that
    does. What such a call makes inside is not told, only the outermost.

    Args:
        modules: the models.
        lend: returns on every rank what one has: the value and that rank are its arguments.

    Attributes:
        known: there are calls to make again.
    """

    def __init__(self, modules: Sequence[nn.Module], lend: Callable[[Any, int], Any]):
        from torch.distributed.fsdp import FSDPModule

        self.known = False
        self._modules: list[nn.Module] = [
            part for one in modules for part in one.modules() if isinstance(part, FSDPModule)
        ]
        self._lend = lend
        self._lender: int | None = None
        self._calls: list[tuple[nn.Module, Any, Any]] = []
        self._fresh = True
        self._replays = False
        self._depth = 0
        self._handles: list[Any] = []
        for part in self._modules:
            # Before FSDP2's own, which sends: who follows hears of a call before it has to gather for it.
            before = part.register_forward_pre_hook(self._note, with_kwargs=True, prepend=True)
            after = part.register_forward_hook(self._leave, always_call=True)
            self._handles += [before, after]

    def _note(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._replays:
            return
        self._depth += 1
        if self._depth > 1:
            return
        if self._fresh:
            self._calls, self._fresh, self.known = [], False, True
        self._calls.append((module, args, kwargs))
        if self._lender is not None:
            self._lend([self._modules.index(module), args, kwargs], self._lender)

    def _leave(self, *_: Any) -> None:
        if not self._replays:
            self._depth -= 1

    def begin(self, lender: int | None) -> None:
        """Let the next call be the first of another batch, and be told where some rank knows none."""
        self._fresh, self._lender = True, lender

    def told(self) -> None:
        """Let those who follow know that the batch has no more calls."""
        if self._lender is not None:
            self._lend(None, self._lender)
            self._lender = None

    def follow(self, lender: int) -> None:
        """Make the calls that a rank makes with its batch, as they come, for nothing."""
        self._calls = []
        while (call := self._lend(None, lender)) is not None:
            number, args, kwargs = call
            self._calls.append((self._modules[number], args, kwargs))
            self._make(self._calls[-1:])
        self.known = True

    def again(self) -> None:
        """Make the last batch's calls again, for nothing."""
        self._make(self._calls)

    def _make(self, calls: Sequence[tuple[nn.Module, Any, Any]]) -> None:
        self._replays = True
        try:
            for module, args, kwargs in calls:
                module(*args, **kwargs)
        finally:
            self._replays = False

    def release(self) -> None:
        """Take the hooks out."""
        for handle in self._handles:
            handle.remove()
        self._calls = []
