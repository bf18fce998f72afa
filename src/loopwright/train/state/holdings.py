"""What optimizers hold that is in no model's state: parameters of no model, groups that were added later.

A temperature or the weights of several losses are often plain tensors that an optimizer trains. A
backbone that thaws half-way often comes as a group of its own (``add_param_group``), which the program
does not add again when it goes on behind that place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from loopwright.train.prepare import parameter_names

Models = dict[str, torch.nn.Module]
Optimizers = dict[str, torch.optim.Optimizer]


def state_of(models: Models, optimizers: Optimizers, identity: dict[str, Any]) -> dict[str, Any]:
    """Return that state by optimizer.

    Args:
        models: by name.
        optimizers: by name.
        identity: of the run; it tells the groups that each optimizer began with.
    """
    names = parameter_names(models)
    return {
        key: {
            "others": {
                place: {"value": p.detach(), "grad": p.grad}
                for place, p in _others(optimizer, names)
            },
            "groups": [
                [names.get(p) for p in group["params"]]
                for i, group in enumerate(optimizer.param_groups)
                if f"{key} group {i} parameters" not in identity
            ],
        }
        for key, optimizer in optimizers.items()
    }


def restore(
    models: Models, optimizers: Optimizers, state: dict[str, Any], groups: dict[str, Any]
) -> None:
    """Add the groups that are missing, and give the parameters of no model their values.

    A group that holds parameters of no model is not added: whoever loads the optimizer's state says so.

    Args:
        models: by name.
        optimizers: by name.
        state: what ``state_of`` returned.
        groups: the ``param_groups`` of the optimizers' saved states.
    """
    parameters = {name: p for p, name in parameter_names(models).items()}
    for key, optimizer in optimizers.items():
        added = state[key]["groups"]
        first = len(groups[key]) - len(added)
        for i, names in enumerate(added):
            if len(optimizer.param_groups) == first + i and all(
                name in parameters for name in names
            ):
                options = {k: v for k, v in groups[key][first + i].items() if k != "params"}
                optimizer.add_param_group({"params": [parameters[n] for n in names], **options})
        saved = state[key]["others"]
        for place, parameter in _others(optimizer, {p: n for n, p in parameters.items()}):
            if place in saved and saved[place]["value"].shape == parameter.shape:
                grad = saved[place]["grad"]
                with torch.no_grad():
                    parameter.copy_(saved[place]["value"])
                parameter.grad = None if grad is None else grad.to(parameter.device, copy=True)


def _others(
    optimizer: torch.optim.Optimizer, names: dict[torch.Tensor, str]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the parameters of no model with their place: group and number."""
    for i, group in enumerate(optimizer.param_groups):
        for j, parameter in enumerate(group["params"]):
            if parameter not in names:
                yield f"{i}.{j}", parameter
