"""All that a training step changes, copied and put back: for running one step twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from loopwright.train.process import randomness

if TYPE_CHECKING:
    from loopwright.train.run import Run


class State:
    """Copies of weights, buffers, the optimizer's tensors and the generators.

    Args:
        run: whose.
        python: Python's and numpy's generators, too, which no graph draws from (50 µs).
    """

    def __init__(self, run: Run, *, python: bool = True):
        self._run = run
        self._random = (randomness.snapshot if python else randomness.torchs)(run.device)
        self._tensors = [(tensor, tensor.detach().clone()) for tensor in _all(run)]

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Return each tensor, as it is now, and its copy."""
        return self._tensors

    def same_draws(self, other: State) -> bool:
        """Whether the generators stood where they stand in another one."""
        return randomness.same(self._random, other._random)

    def put_back(self) -> None:
        """Let everything be as it was."""
        with torch.no_grad():
            for tensor, copy in self._tensors:
                tensor.copy_(copy)
        randomness.restore(self._random, self._run.device)

    def differs(self) -> str | None:
        """Say what is not as it was, bit for bit; None where all is."""
        now = list(_all(self._run))
        if len(now) != len(self._tensors) or any(
            tensor is not then for tensor, (then, _) in zip(now, self._tensors, strict=True)
        ):
            return (
                "it puts another tensor in a buffer's or a state's place, instead of writing there"
            )
        for number, other in enumerate(other_bits(self._tensors)):
            if other:
                shape = tuple(self._tensors[number][0].shape)
                return f"tensor {number} of shape {shape} has other bits"
        if not randomness.same(self._random, randomness.snapshot(self._run.device)):
            return "it draws other random numbers"
        return None

    def far_from(self, before: State, noise: Mapping[int, Tensor | None]) -> str | None:
        """Say what has not moved from ``before`` as it had moved to here; None where all has.

        Of each tensor the difference may be a tenth of its move, and rounding.

        Args:
            before: where both began.
            noise: which elements of a tensor count, by its id; None for none of them. Where the gradient is
                nothing but rounding, Adam makes whole steps of it.
        """
        for (tensor, then), (_, start) in zip(self._tensors, before._tensors, strict=True):
            counts = noise.get(id(tensor), ...)
            if counts is None or torch.equal(tensor, then):  # a mask may hold infinities
                continue
            if not tensor.is_floating_point():
                return f"a tensor of shape {tuple(tensor.shape)} has other whole numbers"
            now, then, start = (part.detach().double()[counts] for part in (tensor, then, start))
            apart, moved = (now - then).norm().item(), (now - start).norm().item()
            if not apart <= 0.1 * moved + 1e-5 * now.norm().item():
                return (
                    f"a tensor of shape {tuple(tensor.shape)} moved by {moved:.3g} "
                    f"and is {apart:.3g} away from that"
                )
        return None


class Options:
    """What an optimizer keeps beside its state: its groups' options, rates among them, and attributes.

    Args:
        optimizer: whose.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        self._optimizer = optimizer
        self._own = dict(vars(optimizer))
        self._groups = optimizer.param_groups
        self._options = [
            {
                name: (value, value.clone() if isinstance(value, Tensor) else value)
                for name, value in group.items() if name != "params"
            }
            for group in self._groups
        ]  # fmt: skip

    def put_back(self) -> None:
        """Let them be as they were; a tensor stays where it is, since graphs read it there."""
        vars(self._optimizer).update(self._own)
        for group, options in zip(self._groups, self._options, strict=True):
            for name, (value, before) in options.items():
                if isinstance(value, Tensor):
                    value.copy_(before)
                group[name] = value


def bytes_of(run: Run) -> int:
    """Return the bytes that a `State` of a run copies."""
    return sum(tensor.numel() * tensor.element_size() for tensor in _all(run))


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal to the bit, nan included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or torch.equal(_bytes(a), _bytes(b))


def other_bits(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[bool]:
    """Return of each pair whether it has not the `same_bits`; the host waits for a device once.

    (On an H100 `torch.equal` takes 65 µs for each pair, of which a transformer with Adam has hundreds.)
    """
    found = [a.shape != b.shape or a.dtype != b.dtype for a, b in pairs]
    there = [n for n, (a, _) in enumerate(pairs) if not found[n] and a.device.type != "cpu"]
    if there:
        flags = torch.stack([torch.ne(*pairs[number]).any() for number in there]).tolist()
        unsure = {number for number, flag in zip(there, flags, strict=True) if flag}  # nan, perhaps
    else:
        unsure = set()
    for number, (a, b) in enumerate(pairs):
        if not found[number] and (a.device.type == "cpu" or number in unsure):
            found[number] = not same_bits(a, b)
    return found


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _all(run: Run) -> Iterator[Tensor]:
    for model in run.models.values():
        yield from model.parameters()
        yield from model.buffers()
    for optimizer in run.optimizers.values():
        for state in optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))


def counts_in_python(optimizer: torch.optim.Optimizer) -> str | None:
    """Return the name of a number that an optimizer keeps as such: a graph cannot move it on."""
    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return name
            if isinstance(value, (list, dict)):
                return name
    return None


def plain_options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return the options of all groups but the learning rates, to see whether somebody changes one."""
    return [
        {k: v for k, v in group.items() if k not in ("params", "lr", "initial_lr")}
        for group in optimizer.param_groups
    ]
