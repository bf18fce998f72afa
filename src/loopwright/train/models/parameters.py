"""Fine-tuning: which parameters train, and with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from loopwright.errors import UsageError
from loopwright.train.models.patterns import matches, unmatched

__all__ = ["freeze", "parameter_groups"]

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def freeze(model: nn.Module, *patterns: str) -> list[str]:
    """Take the parameters that match any of the patterns out of training.

    Only ``requires_grad`` is changed. Dropout and BatchNorm behave as their module's mode says: to hold
    frozen BatchNorm statistics as well, call ``.eval()`` on that part; a run keeps the mode that you set.

    Args:
        model: changed in place.
        patterns: a parameter's name, a module's, or a glob (``*`` goes across dots).

    Returns:
        The names of what the patterns mean, in the model's order; shared parameters once.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> freeze(model, "0")
    ['0.weight', '0.bias']
    >>> [parameter.requires_grad for parameter in model.parameters()]
    [False, False, True, True]

    Raises:
        UsageError: a pattern means nothing, or there is none.
    """
    if not patterns:
        raise UsageError(
            "freeze() got no pattern.",
            slug="pattern-unmatched",
            hint='write freeze(model, "backbone") or freeze(model, "*") for everything',
        )
    named = list(model.named_parameters(remove_duplicate=False))
    names = [name for name, _ in named]
    for pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            raise unmatched(pattern, names, "parameter")
    frozen: dict[int, str] = {}
    for name, parameter in named:
        if any(matches(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
            frozen.setdefault(id(parameter), name)
    return list(frozen.values())


def parameter_groups(
    model: nn.Module,
    *,
    lr: float | None = None,
    weight_decay: float | None = None,
    patterns: Mapping[str, float | Mapping[str, Any]] | None = None,
    no_decay: bool = True,
) -> list[dict[str, Any]]:
    """Return an optimizer's parameter groups: every trainable parameter in exactly one.

    Args:
        model: frozen parameters are left out, shared ones come once.
        lr: of what no pattern says otherwise; None: the optimizer's.
        weight_decay: likewise.
        patterns: from a name or glob (see ``freeze``) to a learning rate, or to a dict of any of the
            optimizer's settings. The first that matches counts.
        no_decay: keep biases, norm layers and everything else with fewer than two dimensions out of
            weight decay.

    Returns:
        Dicts with ``params``, ``name`` and settings; without empty ones.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    >>> groups = parameter_groups(model, weight_decay=0.1, patterns={"2": 1e-2})
    >>> for group in groups:
    ...     print(group["name"], len(group["params"]), group.get("lr"), group["weight_decay"])
    rest 1 None 0.1
    rest, no decay 3 None 0.0
    2 1 0.01 0.1
    2, no decay 1 0.01 0.0

    Raises:
        UsageError: a pattern means no trainable parameter, nothing trains, or a shape is not known yet.
    """
    rules = {
        pattern: dict(rule) if isinstance(rule, Mapping) else {"lr": rule}
        for pattern, rule in (patterns or {}).items()
    }
    aliases: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(parameter), []).append(name)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise UsageError(
            "no parameter of the model requires grad: nothing would train.", slug="nothing-trains"
        )
    for pattern in rules:
        if not any(matches(alias, pattern) for _, p in named for alias in aliases[id(p)]):
            raise unmatched(pattern, [name for name, _ in named], "trainable parameter")
    default = {
        key: value
        for key, value in (("lr", lr), ("weight_decay", weight_decay))
        if value is not None
    }
    spared = _norm_parameters(model)
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for pattern in ("", *rules):
        for decays in (True, False):
            label = (pattern or "rest") + ("" if decays else ", no decay")
            settings = {**default, **rules.get(pattern, {})}
            groups[pattern, decays] = {"params": [], "name": label, **settings}
            if not decays:
                groups[pattern, decays]["weight_decay"] = 0.0
    for name, parameter in named:
        if is_lazy(parameter):
            raise UsageError(
                f"the shape of {name!r} is not known yet.",
                slug="lazy-parameter",
                hint="run the model once on a batch before making the optimizer",
            )
        found = (r for r in rules if any(matches(a, r) for a in aliases[id(parameter)]))
        plain = parameter.ndim < 2 or id(parameter) in spared or "bias" in name.rpartition(".")[2]
        groups[next(found, ""), not (no_decay and plain)]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def _norm_parameters(model: nn.Module) -> set[int]:
    """Return the identities of every parameter that belongs directly to a norm layer."""
    return {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _NORMS) or type(module).__name__.endswith("Norm")
        for parameter in module.parameters(recurse=False)
    }
