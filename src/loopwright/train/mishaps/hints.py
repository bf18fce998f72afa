"""What torch's messages mean for a training loop, and what to write instead: one table.

A hint is one line under the error, which keeps its type and its words. Most need the message alone; that
about labels looks at the tensors in the traceback's frames.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NamedTuple

from torch import Tensor

from loopwright.train.mishaps import describe, memory

DTYPES = {"Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16",
          "Long": "int64", "Int": "int32", "Byte": "uint8", "double": "float64", "float": "float32",
          "c10::BFloat16": "bfloat16", "c10::Half": "float16", "long int": "int64"}  # fmt: skip


class Facts(NamedTuple):
    """What a hint may be made of."""

    error: BaseException
    found: re.Match[str]
    indices: Any
    """Of the samples in the batch, None where nobody knows them."""


_DEVICES = "batches are moved to the run's device; make other tensors there: device=run.device"

Hint = str | Callable[[Facts], str | None]


def hint_for(error: BaseException, indices: Any = None) -> str | None:
    """Return what to write instead, as one line; None where the message is not in the table."""
    if memory.out_of_memory(error):
        return memory.HINT
    text = str(error)
    for pattern, hint in TABLE:
        found = pattern.search(text)
        if found is not None:
            made = hint if isinstance(hint, str) else hint(Facts(error, found, indices))
            if made is not None:
                return made
    return None


# -- types and shapes ----------------------------------------------------------------------------


def _two_types(facts: Facts) -> str:
    one, other = (DTYPES.get(name, name) for name in facts.found.groups()[:2])
    if one == other:
        return _DEVICES
    if {one, other} == {"float64", "float32"}:
        return (
            "numpy and Python numbers are float64, models float32: end the data set with x.float(), or "
            "make the model .double()"
        )
    if "int64" in (one, other) or "uint8" in (one, other):
        return (
            "whole numbers where the layer takes floats: x.float() in the data set, pictures / 255"
        )
    return f"the inputs are {one} and the layer is {other}: bring them to one type in the data set"


def _matrices(facts: Facts) -> str:
    rows, columns, takes, _ = facts.found.groups()
    return (
        f"the layer takes {takes} features and was given {columns} (a batch of {rows} rows): "
        f"nn.Linear({columns}, …), or flatten or reshape what comes before it"
    )


def _channels(facts: Facts) -> str:
    takes, had = facts.found.groups()
    return (
        f"the first convolution takes {takes} channels and the pictures have {had}: "
        "the order is (samples, channels, height, width)"
    )


def _batch_sizes(facts: Facts) -> str:
    outputs, targets = facts.found.groups()
    return (
        f"the model gives {outputs} rows for {targets} labels: something in it, a view or a flatten, mixes "
        "samples, or inputs and labels were cut differently"
    )


def _not_a_tensor(facts: Facts) -> str | None:
    function, place, kind = facts.found.groups()
    if place != "1" or not any(x in function for x in ("loss", "cross_entropy", "kl_div")):
        if kind in ("str", "list", "dict"):
            return f"the batches hold {kind}: turn it into tensors in the data set or in collate_fn"
        return None
    if kind == "NoneType":
        return "the model returns None: its forward() lacks a return"
    return (
        f"the model returns a {kind}, and the criterion takes a tensor: compute_loss=lambda model, batch: … "
        "picks from it"
    )


# -- labels --------------------------------------------------------------------------------------


def _label(facts: Facts) -> str | None:
    """Name the label, its sample and the classes, from the tensors that the criterion was given."""
    for frame in reversed(list(frames(facts.error))):
        target, outputs = frame.f_locals.get("target"), frame.f_locals.get("input")
        if not isinstance(target, Tensor) or not isinstance(outputs, Tensor) or not outputs.ndim:
            continue
        classes = outputs.shape[1] if outputs.ndim > 1 else outputs.shape[0]
        wrong = ((target < 0) | (target >= classes)).detach()
        ignored = frame.f_locals.get("ignore_index")
        if isinstance(ignored, int):
            wrong &= target != ignored
        if target.is_floating_point() or not wrong.any():
            continue
        value = int(target[wrong].reshape(-1)[0])
        row = int(wrong.reshape(len(target), -1).any(1).int().argmax()) if target.ndim else 0
        return _about_label(value, classes, describe.sample(facts.indices, row))
    return None


def _about_label(value: int, classes: int, where: str) -> str:
    said = f"{where} has label {value}, and the model gives {classes} classes, 0 to {classes - 1}: "
    if value < 0:
        return said + f"for 'no label' write CrossEntropyLoss(ignore_index={value})"
    if value == classes:
        return said + f"make its last layer {classes + 1} wide, or let labels start at 0"
    return said + f"make its last layer {value + 1} wide, or number the classes without gaps"


def frames(error: BaseException) -> Iterator[FrameType]:
    """Yield the frames of an exception's traceback, the innermost last."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


# -- the table -----------------------------------------------------------------------------------

_KIND = r"(?:torch\.)?(?:cuda\.)?([\w:]+?)(?:Tensor)?"

_HINTS: dict[str, Hint] = {
    r"cannot unpack non-iterable Step object|'Step' object (?:has no attribute|is not)":
        "the loop gives a step, and the step has the batch: for step in run.loop(…): "
        "inputs, labels = step.batch",
    r"Target -?\d+ is out of bounds": _label,
    r"Class values must be smaller than num_classes": _label,
    r"expected target dtype to be Long|expected scalar type Long but found":
        "CrossEntropyLoss takes classes as whole numbers: labels.long() in the data set",
    r"must have the same dtype, but got ([\w:]+) and ([\w:]+)": _two_types,
    r"expected m1 and m2 to have the same dtype, but got: ([\w: ]+) != ([\w: ]+)": _two_types,
    r"expected scalar type (\w+) but found (\w+)": _two_types,
    rf"Input type \({_KIND}\) and (?:weight|bias) type \({_KIND}\) should": _two_types,
    r"shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)": _matrices,
    r"expected input\[.*\] to have (\d+) channels, but got (\d+) channels": _channels,
    r"Expected input batch_size \((\d+)\) to match target batch_size \((\d+)\)": _batch_sizes,
    r"(\w+)\(\): argument '\w+' \(position (\d+)\) must be Tensor, not (\w+)": _not_a_tensor,
    r"Expected more than 1 value per channel when training":
        "a batch of one sample has no variance for BatchNorm: DataLoader(…, drop_last=True)",
    r"device-side assert triggered":
        "mostly a label or an index out of range; the same run with device='cpu' names it",
    r"on the same device|is not on the expected device": _DEVICES,
    r"modified by an inplace operation":
        "something wrote into a tensor that backward needs (+=, relu_, x[i] = …): "
        "torch.autograd.set_detect_anomaly(True) shows where",
    r"backward through the graph a second time":
        "two losses share a graph: step.backward(loss_1 + loss_2), or retain_graph=True for the "
        "first; a state kept from the turn before needs .detach()",
    r"optimizer got an empty parameter list":
        "the model has no parameters, or a generator of them was used up before",
    r"shared memory|[Bb]us error|/torch_\d+":
        "shared memory (/dev/shm) is full: fewer workers, a smaller prefetch_factor, or in a "
        "container more of it (docker run --shm-size=8g)",
    r"Too many open files|received \d+ items of ancdata":
        "ulimit -n 65536, or torch.multiprocessing.set_sharing_strategy('file_system')",
    r"got mixed torch\.Tensor and DTensor":
        "a part of the model that FSDP2 gathers only with the whole was called by itself: run.model(inputs), "
        'or name it: parallel={"strategy": "fsdp", "blocks": ["encoder", "head"]}',
    r"DataLoader timed out after":
        "a worker took longer than the loader's timeout= for one batch: a larger one, or "
        "num_workers=0 to see where it waits",
}  # fmt: skip

TABLE = [(re.compile(pattern), hint) for pattern, hint in _HINTS.items()]
