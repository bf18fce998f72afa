"""A model in rows: modules, output shapes, parameters, FLOPs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from loopwright.errors import LoopwrightWarning
from loopwright.events import LayerRow, ModelSummary
from loopwright.train.process import randomness

__all__ = ["summary"]


def summary(model: nn.Module, example: Any = None) -> ModelSummary:
    """Return the model in rows, one for each module, the whole model first.

    With an example, one forward pass in eval mode and without gradients tells the output shapes and the
    FLOPs. Modes, buffers and random generators are afterwards as they were.

    Args:
        model: compiled or wrapped ones are looked into.
        example: one batch of the model's input: a tensor, a tuple of positional or a dict of keyword
            arguments. None: shapes and FLOPs stay unknown.

    Returns:
        A record without tensors. A row's parameters are those of the module and everything inside it;
        shared ones count once. FLOPs are of one sample's forward pass, a multiply-add counts twice.

    >>> rows = summary(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.ones(1, 4))
    >>> [(row.name, row.output_shape, row.parameters) for row in rows.rows]
    [('', [1, 2], 58), ('0', [1, 8], 40), ('1', [1, 8], 0), ('2', [1, 2], 18)]
    >>> rows.flops
    96
    """
    model = bare(model)
    shapes: dict[str, list[int]] = {}
    flops = None
    lazy = any(is_lazy(tensor) for tensor in _tensors(model))
    if example is not None and not lazy:
        try:
            shapes, flops = _forward(model, example)
        except Exception as error:  # whatever the user's forward raises
            if "DataLoader worker" in str(error):  # torch raises this wherever the program is
                raise
            warnings.warn(
                LoopwrightWarning(
                    f"the model's summary has no shapes: its forward pass in eval mode raised "
                    f"{type(error).__name__}: {error}"
                ),
                stacklevel=2,
            )
    rows = [_row(name, module, shapes.get(name)) for name, module in model.named_modules()]
    return ModelSummary(
        name=type(model).__name__,
        rows=rows,
        parameters=rows[0].parameters,
        trainable=rows[0].trainable,
        bytes=sum(t.numel() * t.element_size() for t in _tensors(model) if not is_lazy(t)),
        flops=flops,
    )


def of_models(models: Mapping[str, nn.Module]) -> ModelSummary:
    """Return the summary of a run's models: of one, or of all below a row that counts them together."""
    found = {name: summary(model) for name, model in models.items()}
    if len(found) == 1:
        return next(iter(found.values()))
    whole = nn.Module()
    whole._modules |= {name: bare(model) for name, model in models.items()}
    top = _row("", whole, None)
    rows = [LayerRow("", "several models", None, top.parameters, top.trainable)]
    for name, one in found.items():
        for row in one.rows:
            below = f"{name}.{row.name}" if row.name else name
            rows.append(
                LayerRow(below, row.kind, None, row.parameters, row.trainable, row.depth + 1)
            )
    total = sum(one.bytes for one in found.values())
    return ModelSummary(", ".join(found), rows, top.parameters, top.trainable, total)


def bare(model: nn.Module) -> nn.Module:
    """Return the module inside what ``torch.compile`` or a data-parallel wrapper put around it."""
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        else:
            return model


def _row(name: str, module: nn.Module, shape: list[int] | None) -> LayerRow:
    sizes = [(0 if is_lazy(p) else p.numel(), p.requires_grad) for p in module.parameters()]
    return LayerRow(
        name=name,
        kind=type(module).__name__,
        output_shape=shape,
        parameters=sum(size for size, _ in sizes),
        trainable=sum(size for size, trains in sizes if trains),
        depth=name.count(".") + 1 if name else 0,
    )


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _forward(model: nn.Module, example: Any) -> tuple[dict[str, list[int]], int | None]:
    """Run the model once and return the shape of every module's first output, and FLOPs a sample."""
    from torch.utils.flop_counter import FlopCounterMode

    device = next((tensor.device for tensor in _tensors(model)), torch.device("cpu"))
    shapes: dict[str, list[int]] = {}

    def remember(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, outputs: Any) -> None:
            found = first_tensor(outputs)
            if found is not None:
                shapes.setdefault(name, list(found.shape))

        return hook

    with ExitStack() as stack:
        stack.enter_context(unchanged(model, device))
        if any(m._compiled_call_impl is not None for m in model.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for name, module in model.named_modules():
            module.training = False
            stack.callback(module.register_forward_hook(remember(name)).remove)
        stack.enter_context(torch.no_grad())
        counter = stack.enter_context(FlopCounterMode(display=False))
        example = _moved(example, device)
        call(model, example)
    batch = first_tensor(example)
    samples = batch.shape[0] if batch is not None and batch.ndim else 1
    total = counter.get_total_flops()
    return shapes, round(total / max(samples, 1)) or None


@contextmanager
def unchanged(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Put modes, buffers and random generators back, bit for bit, after a trial with ``model``."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, tensor, tensor._version, tensor.detach().clone())
        for module in model.modules()
        for name, tensor in module._buffers.items()
        if tensor is not None and not is_lazy(tensor)
    ]
    try:
        with randomness.fork(device):
            yield
    finally:
        # Weights that autocast cast under no_grad would enter the next forward without gradients.
        torch.clear_autocast_cache()
        for module, mode in modes:
            module.training = mode
        for module, name, tensor, version, saved in buffers:
            module._buffers[name] = tensor
            if tensor._version != version:
                with torch.no_grad():
                    tensor.copy_(saved)


def call(model: nn.Module, example: Any) -> Any:
    """Call ``model`` with a tuple of positional, a dict of keyword, or one argument."""
    if isinstance(example, Mapping):
        return model(**example)
    if type(example) in (tuple, list):
        return model(*example)
    return model(example)


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor in nested tuples, lists and dicts (or dataclasses); None without one."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = list(value.values())
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        value = list(vars(value).values())
    if isinstance(value, list | tuple):
        return next((t for each in value if (t := first_tensor(each)) is not None), None)
    return None


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if type(value) in (tuple, list):
        return type(value)(_moved(each, device) for each in value)
    if isinstance(value, Mapping):
        return {key: _moved(each, device) for key, each in value.items()}
    return value
