"""The update of torch's SGD, Adam and AdamW on a CPU, without what torch does around its kernels.

``optimizer.step()`` gathers lists, asks for hooks, profilers and compilers, and calls the kernels
parameter by parameter. On four small parameters SGD takes 67 µs that way and 23 this way, with momentum
and decay 134 and 77, Adam 282 and 165. The same kernels get the same numbers in the same order, so that
the weights and the optimizer's state are the same to the last bit, in the optimizer's own tensors. Before
that is done for a kind of optimizer, it has made updates of a small one beside torch's own, bit for bit:
where a torch computes otherwise, its own step is called.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from loopwright.train.update.gradients import Groups, by_group

_TOGETHER = 1 << 14
"""Elements up to which tensors share the calls of kernels. Larger ones go through all kernels one by one,
while they are in the cache: momentum on 4 million weights takes 9 ms so, and 15 in shared calls."""
_OTHER_WAYS = ("maximize", "foreach", "fused", "differentiable", "capturable", "amsgrad")
"""Switches of a group with which torch computes in another way, or something else."""
_DECIDING = ("momentum", "dampening", "nesterov", "weight_decay", *_OTHER_WAYS)
"""Options of a group that decide which operations its update is made of."""
_SWITCHES = 4
_NUMBERS = {float, int}
_PLAIN = {Tensor, torch.nn.Parameter}
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

_Plan = Callable[[], None]


def step(optimizer: Optimizer, groups: Groups, dtype: torch.dtype) -> bool:
    """Update the parameters as ``optimizer.step()`` would, to the bit; False: nothing was done.

    Args:
        optimizer: nobody listens to its steps; its gradients are dense, on a CPU, of one dtype.
        groups: those, each beside its parameter.
        dtype: that one.
    """
    held = [p.data_ptr() for _, params, _ in groups for p in params]
    if len({*held}) < len(held):
        return False  # two parameters in one place: torch ends with the one before it begins with the other
    plans = []
    for group, params, grads in groups:
        plan = _plan_of(type(optimizer), dtype, *map(group.get, _DECIDING))
        if plan is None or not {*map(type, params), *map(type, grads)} <= _PLAIN:
            return False  # parts of tensors on several ranks, quantized ones
        one = plan(group, params, grads, optimizer.state)
        if one is None:  # torch does it: it makes the state, for one
            return False
        plans.append(one)
    before = torch.is_grad_enabled()
    torch._C._set_grad_enabled(False)  # as torch.no_grad(), which takes 2 µs
    try:
        for one in plans:
            one()
    finally:
        torch._C._set_grad_enabled(before)
    return True


def _sgd(
    group: dict[str, Any], params: list[Tensor], grads: list[Tensor], state: Any
) -> _Plan | None:
    momentum, decay, lr = group["momentum"], group["weight_decay"], group["lr"]
    if not {type(lr), type(momentum), type(decay), type(group["dampening"])} <= _NUMBERS:
        return None  # a tensor
    if not momentum and not decay:
        return lambda: torch._foreach_add_(params, grads, alpha=-lr) if params else None
    buffers = [state[p].get("momentum_buffer") if momentum else None for p in params]
    if momentum and any(buffer is None for buffer in buffers):
        return None

    def update() -> None:
        for piece, these, kept in _pieces(params, grads, buffers):
            if decay:
                these = torch._foreach_add(these, piece, alpha=decay)
            if momentum:
                torch._foreach_mul_(kept, momentum)
                torch._foreach_add_(kept, these, alpha=1 - group["dampening"])
                these = (
                    torch._foreach_add(these, kept, alpha=momentum) if group["nesterov"] else kept
                )
            torch._foreach_add_(piece, these, alpha=-lr)

    return update


def _adam(
    group: dict[str, Any], params: list[Tensor], grads: list[Tensor], state: Any
) -> _Plan | None:
    states = [state[p] for p in params]
    if not all(states):
        return None
    (beta1, beta2), lr = group["betas"], group["lr"]
    decay, eps = group["weight_decay"], group["eps"]
    steps = [one["step"] for one in states]
    done = {one.item() for one in steps}
    if len(done) != 1 or not set(map(type, (beta1, beta2, lr, decay, eps))) <= _NUMBERS:
        return None
    count = done.pop() + 1
    size = lr / (1 - beta1**count)
    root = (1 - beta2**count) ** 0.5
    firsts, seconds = ([one[name] for one in states] for name in ("exp_avg", "exp_avg_sq"))
    decoupled = group["decoupled_weight_decay"]

    def update() -> None:
        torch._foreach_add_(steps, 1)
        for piece, these, first, second in _pieces(params, grads, firsts, seconds):
            if decay and decoupled:
                torch._foreach_mul_(piece, 1 - lr * decay)
            elif decay:
                these = torch._foreach_add(these, piece, alpha=decay)
            torch._foreach_lerp_(first, these, 1 - beta1)
            torch._foreach_mul_(second, beta2)
            torch._foreach_addcmul_(second, these, these, 1 - beta2)
            below = torch._foreach_sqrt(second)
            torch._foreach_div_(below, root)
            torch._foreach_add_(below, eps)
            torch._foreach_addcdiv_(piece, first, below, -size)

    return update


_PLANS: dict[type[Any], Any] = {SGD: _sgd, Adam: _adam, AdamW: _adam}


def _pieces(params: list[Tensor], *others: list[Any]) -> list[tuple[list[Any], ...]]:
    """Return the lists in pieces: all small tensors in one, each larger one by itself."""
    small = [i for i, p in enumerate(params) if p.numel() <= _TOGETHER]
    lists = (params, *others)
    if len(small) == len(params):
        return [lists] if params else []
    several = set(small)
    alone = [[i] for i in range(len(params)) if i not in several]
    return [tuple([one[i] for i in piece] for one in lists) for piece in (small, *alone) if piece]


@lru_cache(256)
def _plan_of(kind: type[Any], dtype: torch.dtype, *options: Any) -> Any:
    """Return what plans the updates of groups with these options; None where torch computes otherwise."""
    switches, other_ways = options[:_SWITCHES], options[_SWITCHES:]
    if kind not in _PLANS or dtype not in _DTYPES or any(other_ways):
        return None
    return _PLANS[kind] if _agrees(kind, dtype, tuple(map(bool, switches))) else None


@cache
@torch.no_grad()
def _agrees(kind: type[Any], dtype: torch.dtype, switches: tuple[bool, ...]) -> bool:
    """Whether updates of a small optimizer are torch's own, to the bit (2 ms, once a kind)."""
    momentum, dampening, nesterov, decay = switches
    options: dict[str, Any] = {"lr": 0.037, "weight_decay": 0.013 if decay else 0.0}
    if kind is SGD:
        options |= {"momentum": 0.83 if momentum else 0.0, "nesterov": nesterov}
        options["dampening"] = 0.21 if dampening else 0.0
    shapes = [1, 7, 3000, _TOGETHER + 5]
    weights = [torch.linspace(-1.7, 2.3, size, dtype=dtype, device="cpu") for size in shapes]
    both = [kind([torch.nn.Parameter(w.clone()) for w in weights], **options) for _ in range(2)]
    for turn in range(4):
        for ours in (True, False):
            optimizer = both[ours]
            for p in optimizer.param_groups[0]["params"]:
                p.grad = (p.detach() * 3.1 + turn).cos()
            [group] = by_group(optimizer)
            plan = _PLANS[kind](*group, optimizer.state) if ours else None
            # Torch's turn, or the first one, in which the state is made.
            kind.step.__wrapped__(optimizer) if plan is None else plan()
    torchs, ours = (optimizer.state_dict()["state"] for optimizer in both)
    return all(
        torch.equal(a, b)
        for a, b in zip(*(optimizer.param_groups[0]["params"] for optimizer in both), strict=True)
    ) and all(
        torch.equal(one, ours[index][name])
        for index, state in torchs.items() for name, one in state.items() if one is not None
    )  # fmt: skip
