"""What a run is given, checked and made ready: models, optimizers, the device."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from loopwright.errors import LoopwrightWarning, UsageError
from loopwright.train.callsite import place_of
from loopwright.train.update.schedules import Schedule, resolve

if TYPE_CHECKING:
    from loopwright.train.models.ema import EMA


def check(*, accumulate: Any, resume: str, nonfinite: str, out: Any) -> None:
    """Refuse settings that cannot be."""
    if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
        raise UsageError(
            f"accumulate is a whole number from 1, got {accumulate!r}",
            slug="accumulate-out-of-range",
        )
    if resume not in ("auto", "never", "always"):
        raise UsageError(
            f"resume is 'auto', 'never' or 'always', got {resume!r}", slug="unknown-resume"
        )
    if out is None and resume == "always":
        raise UsageError("resume='always' needs out=", slug="resume-without-out")
    if out is None and nonfinite == "rewind":
        raise UsageError(
            "nonfinite='rewind' goes back to a checkpoint, and without out= there are none",
            slug="rewind-without-out", hint="out='runs/mine'",
        )  # fmt: skip


def deterministic(device: torch.device) -> bool:
    """Switch torch to its deterministic algorithms; returns whether they were on before.

    On CUDA torch then refuses a matrix product unless cuBLAS has a fixed workspace: it gets one, if the
    environment does not say otherwise.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    return before


def named(value: Any, single: str) -> tuple[dict[str, Any], bool]:
    """Return ``value`` as a dict, and whether it was one."""
    if isinstance(value, Mapping) and not isinstance(value, nn.Module):
        return dict(value), True
    return {single: value}, False


def models(model: Any) -> tuple[dict[str, nn.Module], bool]:
    """Return the modules by name, and whether several were given."""
    found: dict[str, Any]
    found, several = named(model, "model")
    if isinstance(model, nn.ModuleDict):
        found, several = dict[str, Any](model=model), False
    for name, module in found.items():
        if not isinstance(module, nn.Module):
            raise UsageError(
                f"{name} is not a torch.nn.Module but {type(module).__name__}",
                slug="not-a-module", hint="model=module, or model={'name': module, …}",
            )  # fmt: skip
    if not found:
        raise UsageError("model is an empty dict", slug="not-a-module")
    if not any(True for module in found.values() for _ in module.parameters()):
        raise UsageError("the model has no parameters", slug="no-parameters")
    return found, several


def pick_device(device: str | torch.device) -> torch.device:
    """Return the device that is asked for; ``"auto"`` is the accelerator where there is one.

    Raises:
        UsageError: it is not there.
    """
    if device == "auto":
        if torch.accelerator.is_available():
            found = torch.accelerator.current_accelerator()
            assert found is not None
            return torch.device(found.type, torch.accelerator.current_device_index())
        return torch.device("cpu")
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise UsageError(
            f"device {device!r} is not one", slug="unknown-device",
            hint='"auto", "cpu", "cuda", "cuda:1", "mps"',
        ) from error  # fmt: skip
    if wanted.type == "cpu":
        return torch.device("cpu")
    available = torch.accelerator.is_available()
    current = torch.accelerator.current_accelerator() if available else None
    count = torch.accelerator.device_count() if available else 0
    if current is None or current.type != wanted.type or (wanted.index or 0) >= count:
        have = "cpu" + (f", {current.type} (0 to {count - 1})" if current is not None else "")
        raise UsageError(
            f"device {device!r} is not there; this machine has {have}",
            slug="no-such-device", hint='device="auto" takes what there is',
        )  # fmt: skip
    return torch.device(wanted.type, wanted.index or 0)


def optimizers(
    optimizer: Any, found: dict[str, nn.Module]
) -> tuple[dict[str, torch.optim.Optimizer], bool]:
    """Return the optimizers by name, building those that were given as functions.

    A function gets the trainable parameters of the model of its name, or of all models.
    """
    given, many = named(optimizer, "optimizer")
    built = {}
    for name, value in given.items():
        if not isinstance(value, torch.optim.Optimizer) and callable(value):
            value = _build(value, found if name not in found else {name: found[name]})
        if not isinstance(value, torch.optim.Optimizer):
            if _looks_like_one(value):
                raise UsageError(
                    f"{type(value).__name__} is not a torch.optim.Optimizer",
                    slug="not-an-optimizer",
                    hint="derive it from torch.optim.Optimizer (it needs its step hooks)",
                )
            raise UsageError(
                f"{name} is not an optimizer but {type(value).__name__}",
                slug="not-an-optimizer",
                hint="optimizer=torch.optim.AdamW(model.parameters()), a function "
                "params -> optimizer, or a dict of those",
            )
        built[name] = value
    if not built:
        raise UsageError("optimizer is an empty dict", slug="not-an-optimizer")
    _check_parameters(built, found)
    return built, many


def _looks_like_one(value: Any) -> bool:
    return hasattr(value, "step") and hasattr(value, "zero_grad")


def _build(make: Callable[..., Any], found: dict[str, nn.Module]) -> Any:
    parameters = [p for module in found.values() for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError("every parameter is frozen: there is nothing to train", slug="all-frozen")
    try:
        inspect.signature(make).bind(parameters)
    except TypeError as error:
        raise UsageError(
            f"the function that makes the optimizer takes one argument, the parameters: {error}",
            slug="not-an-optimizer", where=place_of(make),
            hint="optimizer=lambda params: torch.optim.AdamW(params, lr=1e-3)",
        ) from error  # fmt: skip
    except ValueError:  # a builtin that does not tell
        pass
    return make(parameters)


def _check_parameters(built: dict[str, torch.optim.Optimizer], found: dict[str, nn.Module]) -> None:
    held = [p for o in built.values() for g in o.param_groups for p in g["params"]]
    if not any(p.requires_grad for p in held):
        raise UsageError(
            "every parameter that the optimizer holds is frozen: there is nothing to train",
            slug="all-frozen",
            hint="requires_grad_(True) on what is to be trained, before the optimizer is made",
        )
    owned = {id(p) for module in found.values() for p in module.parameters()}
    strangers = [p for p in held if p.requires_grad and id(p) not in owned]
    if len(strangers) == len(held):
        raise UsageError(
            "the optimizer holds none of the model's parameters",
            slug="optimizer-of-another-model",
            hint="make the optimizer from the parameters of the model that is given to Run",
        )


def warn_about_uncovered(
    built: dict[str, torch.optim.Optimizer], found: dict[str, nn.Module]
) -> None:
    """Warn when parameters that got a gradient are in no optimizer: they will never move."""
    import warnings

    held = {id(p) for o in built.values() for g in o.param_groups for p in g["params"]}
    missing = [
        name if len(found) == 1 else f"{key}.{name}"
        for key, module in found.items()
        for name, p in module.named_parameters()
        if p.grad is not None and id(p) not in held
    ]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        warnings.warn(
            f"{', '.join(missing[:3])}{more} got a gradient and are in no optimizer: they will not "
            "be trained, and their gradients add up  [uncovered-parameters]",
            LoopwrightWarning,
            stacklevel=2,
        )


def schedules(scheduler: Any, built: dict[str, torch.optim.Optimizer]) -> dict[str, Schedule]:
    """Return the schedulers, with their unit, by optimizer name."""
    if scheduler is None:
        return {}
    given = dict(scheduler) if isinstance(scheduler, Mapping) else {next(iter(built)): scheduler}
    if unknown := [name for name in given if name not in built]:
        raise UsageError(
            f"scheduler {unknown[0]!r} names no optimizer ({', '.join(built)})",
            slug="unknown-optimizer",
        )
    if len(built) > 1 and not isinstance(scheduler, Mapping):
        raise UsageError(
            "one scheduler and several optimizers", slug="which-optimizer",
            hint=f"scheduler={{{next(iter(built))!r}: …}}",
        )  # fmt: skip
    resolved = {k: resolve(s, built[k]) for k, s in given.items()}
    return {k: s for k, s in resolved.items() if s is not None}


def ema(given: Any) -> EMA | None:
    """Return the average that is asked for; a number is its decay."""
    if given is None or given is False:
        return None
    from loopwright.train.models.ema import EMA

    return given if isinstance(given, EMA) else EMA(decay=given)


def parameter_names(models: dict[str, nn.Module]) -> dict[torch.Tensor, str]:
    """Return each parameter's name, with the model's in front where there are several."""
    return {
        p: name if len(models) == 1 else f"{key}.{name}"
        for key, module in models.items()
        for name, p in module.named_parameters()
    }
