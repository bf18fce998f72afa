"""The attributes of an object that are its state: read, compared, put back.

Plain values of any object. Of a module of the user's also small tensors that are no buffers, and lists,
dicts, tuples and sets of plain values and tensors: a memory, a counter for each class. Of every module
which of its parameters are trained: a backbone may thaw half-way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

PLAIN = (bool, int, float, str, type(None))
LARGE = 1 << 20
"""Bytes of a tensor above which it is not copied."""
MANY = 1_000
"""Values in one container above which it is not copied."""

_TRAINED = ".requires_grad"
OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def read(holder: Any) -> dict[str, Any]:
    """Return copies of an object's attributes that are its state (3 µs for a module)."""
    found = {name: value for name, value in vars(holder).items() if type(value) in PLAIN}
    if isinstance(holder, nn.Module):
        for name, parameter in holder._parameters.items():
            if parameter is not None:
                found[name + _TRAINED] = parameter.requires_grad
        for name, value in _others(holder).items():
            try:
                found[name] = _copy(value, [MANY])
            except ValueError:
                continue
    return found


def put(holder: Any, name: str, value: Any) -> None:
    """Give an attribute the value that ``read`` returned, in place where it is a container or a tensor."""
    if name.endswith(_TRAINED):
        holder._parameters[name.removesuffix(_TRAINED)].requires_grad_(value)
        return
    there, value = vars(holder).get(name), _copy(value, [MANY])
    if isinstance(there, torch.Tensor) and isinstance(value, torch.Tensor):
        if there.shape == value.shape and there.dtype == value.dtype:
            with torch.no_grad():
                there.copy_(value)
            return
        value = value.to(there.device)
    elif isinstance(there, list) and isinstance(value, list):
        there[:] = value
        return
    elif isinstance(there, (dict, set)) and type(there) is type(value):
        there.clear()
        there.update(value)
        return
    vars(holder)[name] = value  # also where the class is a frozen dataclass


def same(a: Any, b: Any) -> bool:
    """Return whether two states are equal, to the last bit; of anything that ``OwnState`` captures."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        alike = a.shape == b.shape and a.dtype == b.dtype and a.device == b.device
        return alike and torch.equal(bits(a), bits(b))
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(same(value, b[key]) for key, value in a.items())
    if hasattr(a, "shape"):  # of numpy's generators
        return a.shape == b.shape and bool((a == b).all())
    if isinstance(a, float):
        return repr(a) == repr(b)  # nan is nan
    try:
        return bool(a == b)  # 600 numbers of Python's generator: 4 µs
    except (RuntimeError, ValueError):  # there are tensors or arrays in it
        return len(a) == len(b) and all(map(same, a, b))


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return a dense tensor's bytes: nan is equal to itself in them, and -0.0 is not 0.0."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def too_large(holder: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a module's attributes that ``read`` leaves out for their size."""
    return {
        name: value
        for name, value in (_others(holder) if isinstance(holder, nn.Module) else {}).items()
        if isinstance(value, torch.Tensor) and value.nbytes > LARGE and value.grad_fn is None
    }


def _others(module: nn.Module) -> dict[str, Any]:
    """Return a module's attributes beside modules, parameters and buffers; none of torch's own modules."""
    if type(module).__module__.startswith("torch."):
        return {}
    held = module._parameters.keys() | module._buffers.keys()
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, (torch.Tensor, list, dict, tuple, set)) and name not in OF_EVERY_MODULE
        # What pruning and weight_norm compute anew in each forward pass is no state.
        and not any(f"{name}_{part}" in held for part in ("orig", "g", "v"))
    }  # fmt: skip


def _copy(value: Any, left: list[int]) -> Any:
    """Copy plain values, tensors and containers of them; ValueError for all else, and for what is large."""
    left[0] -= 1
    if left[0] < 0:
        raise ValueError("too many values")
    if type(value) in PLAIN:
        return value
    if isinstance(value, torch.Tensor):
        if isinstance(value, nn.Parameter) or value.grad_fn is not None or value.nbytes > LARGE:
            raise ValueError("a parameter, a tensor with a graph, or a large one")
        return value.detach().clone()
    if type(value) in (list, tuple, set):
        return type(value)(_copy(one, left) for one in value)
    if type(value) is dict:
        return {_copy(key, left): _copy(one, left) for key, one in value.items()}
    raise ValueError(f"a {type(value).__name__}")
