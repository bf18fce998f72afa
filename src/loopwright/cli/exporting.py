"""The formats of ``loopwright export``: write, read back, compare, and only then put in place.

Each writer takes the model in eval mode, an example batch (or a tuple of several inputs) and the path,
and returns the largest absolute difference between the model's outputs and those of what it wrote.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.checkpoint.weights import load_weights_file, save_weights
from loopwright.errors import LoopwrightError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

LARGEST = 1e-4
"""Difference, relative to the largest output, above which an export is refused (float32 kernels of two
runtimes differ by 1e-6 to 1e-5)."""


def write_safetensors(model: nn.Module, _example: Any, path: Path) -> float:
    """The weights alone, under their names in ``state_dict``."""
    import torch

    state = {
        name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)
    }
    save_weights(path, state, {})
    back, _ = load_weights_file(path)
    return max((_distance(value.cpu(), back[name]) for name, value in state.items()), default=0.0)


def write_torch_export(model: nn.Module, example: Any, path: Path) -> float:
    """A ``torch.export`` program; ``torch.export.load(path).module()`` runs it without the code."""
    import torch

    inputs = _inputs(example)
    with _quiet():
        program = _dynamic(torch.export.export, model, inputs)
        torch.export.save(program, path)
        again = torch.export.load(path).module()
        return _compared(model, inputs, again)


def write_onnx(model: nn.Module, example: Any, path: Path) -> float:
    """An ONNX file, run once by onnxruntime to compare it."""
    import torch

    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"ONNX export needs {error.name}, which is not installed",
            slug="missing-extra",
            where="command line",
            hint='pip install "loopwright[onnx]"',
        ) from error
    inputs = _inputs(example)
    with _quiet():

        def to_onnx(model: nn.Module, some: tuple[Any, ...], dynamic_shapes: Any) -> None:
            # One file: without external_data=False weights go to a second file beside it.
            torch.onnx.export(
                model,
                some,
                path,
                dynamo=True,
                dynamic_shapes=dynamic_shapes,
                external_data=False,
                verbose=False,
            )

        _dynamic(to_onnx, model, inputs)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]

        def run(*some: Tensor) -> Any:
            fed = {name: one.numpy() for name, one in zip(names, some, strict=True)}
            return [torch.from_numpy(one) for one in session.run(None, fed)]

        return _compared(model, inputs, run)


WRITERS: dict[str, Callable[[nn.Module, Any, Path], float]] = {
    "safetensors": write_safetensors,
    "torch-export": write_torch_export,
    "onnx": write_onnx,
}


def _inputs(example: Any) -> tuple[Tensor, ...]:
    """At most eight and at least two rows: an example of one would fix the batch dimension to one."""
    import torch

    inputs = tuple(example) if isinstance(example, list | tuple) else (example,)
    if not all(isinstance(one, torch.Tensor) and one.dim() >= 1 for one in inputs):
        raise UsageError(
            "the example input is not a tensor, or a tuple of tensors",
            slug="no-example",
            hint="give the recipe's Job example=",
        )
    rows = [one[:8].cpu() for one in inputs]
    return tuple(torch.cat([one, one]) if len(one) == 1 else one for one in rows)


def _dynamic(write: Callable[..., Any], model: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    import torch

    batch = torch.export.Dim("batch")
    try:
        return write(model, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LoopwrightError(
            f"the model cannot be exported: {type(error).__name__}: {first}",
            slug="cannot-export",
            hint="--traceback shows torch's whole explanation; --format safetensors always works",
        ) from error


def _compared(model: nn.Module, inputs: tuple[Tensor, ...], run: Callable[..., Any]) -> float:
    """The largest difference over three batch sizes; an error when it is more than rounding."""
    import torch

    largest = scale = 0.0
    for size in (len(inputs[0]), 1, 3):
        some = tuple(torch.cat([one, one])[:size] for one in inputs)
        with torch.no_grad():
            expected, seen = _tensors(model(*some)), _tensors(run(*some))
        for one, other in zip(expected, seen, strict=True):
            largest = max(largest, _distance(one, other))
            scale = max(scale, float(one.abs().max()))
    if not largest <= LARGEST * max(scale, 1.0):
        raise LoopwrightError(
            f"the exported model differs from the run's by {largest:.3g}; nothing was written",
            slug="export-differs",
        )
    return largest


def _tensors(value: Any) -> list[Tensor]:
    import torch

    if isinstance(value, torch.Tensor):
        return [value.detach().cpu()]
    values = value.values() if isinstance(value, dict) else value
    return [tensor for item in values for tensor in _tensors(item)]


def _distance(one: Tensor, other: Tensor) -> float:
    import torch

    if one.shape != other.shape:
        return float("inf")
    if one.numel() == 0 or torch.equal(one, other):
        return 0.0
    wide = torch.complex128 if one.is_complex() else torch.float64
    return float((one.to(wide) - other.to(wide)).abs().max())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own chatter; errors come through."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
