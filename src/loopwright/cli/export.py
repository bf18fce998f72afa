"""``loopwright export RUN``: the weights or the model for use elsewhere, checked against the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loopwright.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

SUFFIXES = {"safetensors": ".safetensors", "torch-export": ".pt2", "onnx": ".onnx"}


def export(
    run: Path,
    /,
    *,
    format: Literal["safetensors", "torch-export", "onnx"] = "safetensors",  # noqa: A002
    to: Path | None = None,
    which: Literal["best", "final", "ema"] | None = None,
    model: str | None = None,
    shape: str | None = None,
) -> None:
    """Write a run's weights or model for use elsewhere.

    What was written is read back; a file that differs from the model is not kept.

    The batch dimension is dynamic; onnx needs pip install "loopwright[onnx]".

    Args:
        run: A run folder.
        format: safetensors has the weights alone; torch-export and onnx the model too.
        to: The file to write; by default NAME.safetensors, NAME.pt2 or NAME.onnx here.
        which: Which weights; by default the best ones where the run kept them, else the final ones.
        model: module:function that returns the model, for the run of a script.
        shape: Shape of one input of --model without the batch, for example 3,32,32.
    """
    from loopwright.cli import exporting
    from loopwright.cli.output import whole

    size = _shape(shape)
    network, example, weights, name = _model(run, which, model, size, format)
    path = to or Path(name + SUFFIXES[format])
    if path.is_dir() or not path.absolute().parent.is_dir():
        what = f"{path} is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise UsageError(what, slug="no-such-file", where="command line")
    with whole(path) as new:
        difference = exporting.WRITERS[format](network.eval(), example, new)
    print(f"wrote {path}: {weights} weights, largest difference from the model {difference:.3g}")


def _model(
    run: Path, which: Any, named: str | None, shape: list[int] | None, kind: str
) -> tuple[nn.Module, Any, str, str]:
    from loopwright.cli import rebuild

    if named is None:
        rebuilt = rebuild.rebuild(run, which)
        needs = kind != "safetensors"
        example = rebuilt.job.example if rebuilt.job.example is not None or not needs else None
        if needs and example is None:
            example = _first_inputs(rebuilt.job)
        return rebuilt.job.model, example, rebuilt.weights, rebuilt.name
    from loopwright.train.folder.reading import read_run

    read_run(run)
    network = rebuild.named_model(named)
    weights = rebuild.load(run, network, which)
    if kind == "safetensors":
        return network, None, weights, run.resolve().name
    if shape is None:
        raise UsageError(
            f"--format {kind} needs the shape of one input",
            slug="no-example",
            where="command line",
            hint="--shape 3,32,32 for an image of 3 channels and 32 by 32 pixels",
        )
    import torch

    return network, torch.randn(4, *shape), weights, run.resolve().name


def _first_inputs(job: Any) -> Any:
    batch = next(iter(job.train_loader))
    if not isinstance(batch, list | tuple) or len(batch) != 2:
        raise UsageError(
            "an example input is needed, and the batches are not (inputs, targets)",
            slug="no-example",
            hint="give the recipe's Job example=",
        )
    return batch[0]


def _shape(text: str | None) -> list[int] | None:
    if text is None:
        return None
    words = text.split(",")
    if not all(word.strip().isdigit() and int(word) > 0 for word in words):
        raise UsageError(
            f"--shape takes whole numbers between commas, not {text!r}",
            slug="bad-flag",
            where="command line",
            hint="for example --shape 3,32,32",
        )
    return [int(word) for word in words]
