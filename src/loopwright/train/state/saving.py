"""What a run saves and puts back: every piece of state that the next turn depends on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from loopwright.checkpoint.arrays import label
from loopwright.errors import CheckpointError
from loopwright.train.process import randomness
from loopwright.train.state import holdings, identity, structure

if TYPE_CHECKING:
    from loopwright.train.loop import Loop
    from loopwright.train.run import Run


def collect(run: Run, loop: Loop, ended: str | None) -> dict[str, Any]:
    """Return a run's state at the boundary after a turn, as a tree of plain values and tensors."""
    windows = run.stepper.windows
    grads: dict[str, dict[str, torch.Tensor]] = {}
    half_filled = any(window.turns for window in windows.values())
    held = {id(p) for o in run.optimizers.values() for g in o.param_groups for p in g["params"]}
    for key, model in run.models.items():
        # Those of parameters in no optimizer add up, if the program has such.
        grads[key] = {
            name: p.grad for name, p in model.named_parameters() if p.grad is not None
            and (half_filled or id(p) not in held)
        }  # fmt: skip
    return {
        "version": 1,
        "loop": {"name": loop.name, "ended": ended, "limits": loop.limits.describe(),
                 "data": loop.facts, **loop.state_dict()},
        "ended": dict(run.ended),
        "outcome": None if ended is None or loop.outcome is None else asdict(loop.outcome),
        "models": {key: dict(model.state_dict()) for key, model in run.models.items()},
        "buffers": {key: _other_buffers(model) for key, model in run.models.items()},
        "own": run.own.capture(),
        "validation": run.validation.state_dict(),
        "nonfinite": run.nonfinite.state_dict(),
        "optimizers": {key: o.state_dict() for key, o in run.optimizers.items()},
        "holdings": holdings.state_of(run.models, run.optimizers, run.identity),
        "schedules": {key: s.state_dict() for key, s in run.schedules.items()},
        "precision": run.precision.state_dict(),
        "ema": None if run.ema is None else run.ema.state_dict(),
        "windows": {name: window.state_dict() for name, window in windows.items()},
        "unit": run.stepper.unit,
        "gradients": grads,
        "best": {name: dict(value) for name, value in run.best.items()},
        "kept": dict(run.kept),
        "tracked": {name: thing.state_dict() for name, thing in run.tracked.items()},
        "random": randomness.snapshot(run.device),
    }  # fmt: skip


def for_one(state: dict[str, Any]) -> None:
    """Let a state that several ranks have left be one process's: of what their epoch has left of the data.

    Where the program itself had dealt out the data, only the position is known, and no order.
    """
    size = state.pop("ranks", {"size": 1})["size"]
    if size == 1:
        return
    if "share" in state["loop"]["source"]:
        begin_the_rest(state, size)
    else:
        go_back_to_update(state)
        state["loop"]["source"]["position"] *= size


def begin_the_rest(state: dict[str, Any], size: int) -> None:
    """Let a state that ``size`` processes left be a beginning: of what their epoch has left of the data.

    The turns of a window that was open are made again: their gradients lay with the ranks. What the order
    was drawn from goes along, so that whoever goes on can draw it again.
    """
    source = state["loop"]["source"]
    share, start, position = source.get("share"), source["epoch_start"], source["position"]
    feed = source["feed"]
    begun = None if share is None else share["begun"]
    if begun is None and start is not None:
        begun = {
            "own": start["own"], "random": start["random"] if share is None else None,
            "alive": feed.get("alive", False), "position": position, "digest": feed.get("digest"),
            "exact": feed.get("exact", True) and not (feed.get("draws") or {}).get("notes"),
        }  # fmt: skip
    go_back_to_update(state)
    done = (0 if share is None else share["done"]) + source["position"] * size
    source.update(position=0, epoch_start=None, feed={**feed, "alive": False})
    source["rest" if share is None else "share"] = {"done": done, "begun": begun}


def go_back_to_update(state: dict[str, Any]) -> None:
    """Let a state stand where its open window began: what the ranks had gathered in it lay with them."""
    turns = max(window["turns"] for window in state["windows"].values())
    state["gradients"], state["unit"] = {}, None
    for window in state["windows"].values():
        window.update(turns=0, total=None, finished=False)
    if turns:
        state["loop"]["turn"] -= turns
        state["loop"]["source"]["position"] -= turns


def restore(run: Run, loop: Loop, state: dict[str, Any]) -> None:
    """Put back everything but the generators, which wait for the loader's iterator."""
    restore_weights(run, state)
    for name, window in run.stepper.windows.items():
        window.load_state_dict(_part(state["windows"], name, "optimizer"))
        _to_device(window, run.device)
    run.stepper.unit = _on(state["unit"], run.device)
    for key, model in run.models.items():
        saved = state["gradients"].get(key, {})
        for name, parameter in model.named_parameters():
            grad = saved.get(name)
            parameter.grad = None if grad is None else grad.to(parameter.device, copy=True)
    run.own.restore(state["own"])
    run.validation.load_state_dict(state["validation"])
    run.nonfinite.load_state_dict(state["nonfinite"])
    run.ended.clear()
    run.ended.update(state["ended"])
    run.best.clear()
    run.best.update(state["best"])
    run.kept.update(state["kept"])
    for name, thing in run.tracked.items():
        if name in state["tracked"]:
            thing.load_state_dict(state["tracked"][name])
    loop.load_state_dict(state["loop"])
    loop.restored = {"random": state["random"]}


def checked(state: Any, folder: Path) -> Any:
    """Return a checkpoint's state if it is one of a run, or None for None.

    Raises:
        CheckpointError: the checkpoint is whole, and holds something else.
    """
    needed = ("loop", "models", "optimizers", "random", "ended", "kept")
    if state is None or (isinstance(state, dict) and all(name in state for name in needed)):
        return state
    raise CheckpointError(
        "the checkpoint is whole, and holds something else than a run's state",
        slug="checkpoint-mismatch", where=str(folder), hint="another out=, or a copy of the folder",
    )  # fmt: skip


def restore_weights(run: Run, state: dict[str, Any]) -> None:
    """Put back models, optimizers, schedules, the scaler and the average."""
    for key, model in run.models.items():
        with _fitting(key):
            model.load_state_dict(_part(state["models"], key, "model"), strict=True)
        buffers = state["buffers"].get(key, {})
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])
    saved = {key: state["optimizers"][key]["param_groups"] for key in run.optimizers
             if key in state["optimizers"]}  # fmt: skip
    if saved.keys() == run.optimizers.keys():
        holdings.restore(run.models, run.optimizers, state["holdings"], saved)
    allowed = run.files.allowed if run.files is not None else ()
    given = {k: [dict(group) for group in o.param_groups] for k, o in run.optimizers.items()}
    for key, optimizer in run.optimizers.items():
        with _fitting(key):
            optimizer.load_state_dict(_part(state["optimizers"], key, "optimizer"))
    for key, schedule in run.schedules.items():
        if key in state["schedules"]:
            wanted = list(structure.settings(key, schedule))
            schedule.load_state_dict(state["schedules"][key])
            for one in wanted:
                if identity.is_allowed(one.name, allowed):
                    setattr(one.scheduler, one.attribute, one.value)
    for key in run.optimizers:
        _apply_allowed(run, key, given[key], allowed)
    run.precision.load_state_dict(state["precision"])
    if run.ema is not None and state["ema"] is not None:
        run.ema.load_state_dict(state["ema"])


@contextmanager
def _fitting(name: str) -> Iterator[None]:
    """Turn what torch says of a state that does not fit into a refusal of the checkpoint."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        said = [line.strip() for line in str(error).splitlines()]
        raise CheckpointError(
            f"the checkpoint's {name} does not fit: {said[min(1, len(said) - 1)]}",
            slug="checkpoint-mismatch",
            hint="allow_change is for values; to begin from the weights that fit, another out= and --init",
        ) from error


def with_buffers(state: dict[str, Any], buffers: dict[str, dict[str, torch.Tensor]]) -> None:
    """Let a collected state have these buffers instead of the ones that the models hold now."""
    for key, found in buffers.items():
        for part in (state["models"][key], state["buffers"][key]):
            part.update({name: value for name, value in found.items() if name in part})


def parameter_labels(run: Run) -> frozenset[str]:
    """Return the names that a checkpoint's file has for the models' parameters."""
    return frozenset(
        label(f"state['models'][{key!r}][{name!r}]")
        for key, model in run.models.items()
        for name, _ in model.named_parameters(remove_duplicate=False)
    )


def _other_buffers(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the buffers that are not in the ``state_dict``; some move all the same."""
    known = model.state_dict()
    return {name: b.detach() for name, b in model.named_buffers() if name not in known}


def _apply_allowed(
    run: Run, key: str, given: list[dict[str, Any]], allowed: tuple[str, ...]
) -> None:
    """Put the options of an optimizer back whose change was allowed; loading has undone it.

    A learning rate under a schedule is scaled by the change of its beginning: where the schedule
    stands stays.
    """
    schedule = run.schedules.get(key)
    for i, (group, wanted) in enumerate(zip(run.optimizers[key].param_groups, given, strict=True)):
        for name, value in wanted.items():
            if name == "params" or not identity.is_allowed(f"{key} group {i} {name}", allowed):
                continue
            if name == "lr" and schedule is not None and group.get("initial_lr"):
                ratio = wanted["initial_lr"] / group["initial_lr"]
                group["initial_lr"] = wanted["initial_lr"]
                group["lr"] *= ratio
                for rates in ("base_lrs", "_last_lr"):
                    known = getattr(schedule.scheduler, rates, None)
                    if known:
                        known[i] *= ratio
            elif name != "initial_lr":
                group[name] = value


def _part(parts: dict[str, Any], key: str, what: str) -> Any:
    if key not in parts:
        raise CheckpointError(
            f"the checkpoint has no {what} called {key!r}; it has {', '.join(parts)}",
            slug="checkpoint-mismatch",
        )
    return parts[key]


def _to_device(window: Any, device: torch.device) -> None:
    window.total = _on(window.total, device)


def _on(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value
