"""Tensors and numpy arrays as named flat tensors in a file plus what the file cannot say of them.

A tensor keeps its dtype, shape, values (bit by bit) and, when it is dense, its strides: an optimizer
state in channels_last that came back contiguous would take another kernel, and other bits.
"""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from loopwright.checkpoint.leaves import NUMPY_DTYPE, TORCH_DTYPES, numpy_dtype

# What every reader of safetensors knows; other dtypes travel as bytes with their name in the tree.
NATIVE = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def bytes_of(tensor: Tensor) -> Tensor:
    """The memory of a contiguous tensor as a flat uint8 tensor, without a copy."""
    return tensor.reshape(-1).view(torch.uint8)


def memory_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, without a copy; valid while the tensor lives.

    Not by ``Tensor.numpy()``, after which torch refuses to resize a storage, which is the user's here.
    """
    flat = bytes_of(tensor)
    if not flat.numel():
        return memoryview(b"")
    array = (ctypes.c_ubyte * flat.numel()).from_address(flat.data_ptr())
    array.tensor = flat  # pyrefly: ignore[missing-attribute] - the memory is the tensor's
    return memoryview(array).cast("B")


def refusal(tensor: Tensor) -> str | None:
    """Why a tensor cannot be stored, or None."""
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        return f"{type(tensor).__qualname__} (a tensor subclass)"
    if tensor.layout is not torch.strided:
        return f"Tensor of layout {tensor.layout}"
    if tensor.is_quantized:
        return f"quantized Tensor ({tensor.dtype})"
    if tensor.device.type == "meta":
        return "Tensor on the meta device (it has no values)"
    if any(getattr(tensor, "names", ())):
        return "Tensor with named dimensions"
    return None


def identity(tensor: Tensor) -> tuple[Any, ...]:
    """Equal for two tensors that are the same view of the same memory."""
    if tensor.numel() == 0:
        return (id(tensor),)
    storage = tensor.untyped_storage()
    place = (tensor.device, storage.data_ptr(), tensor.storage_offset(), tensor.dtype)
    return (*place, tensor.shape, tensor.stride(), tensor.is_conj(), tensor.is_neg())


def store_tensor(tensor: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Return a contiguous tensor of a `NATIVE` dtype and the fields that undo the change.

    A dense tensor of a native dtype is not copied: the result shares its memory.
    """
    tensor = tensor.detach().resolve_conj().resolve_neg()
    fields: dict[str, Any] = {}
    if _is_plain(tensor):
        flat = tensor
    elif _is_dense(tensor):
        fields["shape"], fields["stride"] = list(tensor.shape), list(tensor.stride())
        flat = tensor.as_strided((tensor.numel(),), (1,))
    else:
        flat = tensor.contiguous()
    if tensor.dtype not in NATIVE:
        fields["dtype"] = str(tensor.dtype).removeprefix("torch.")
        fields.setdefault("shape", list(tensor.shape))
        flat = bytes_of(flat)
    return flat, fields


def restore_tensor(flat: Tensor, fields: dict[str, Any]) -> Tensor:
    """Undo `store_tensor`; the result uses ``flat``'s memory.

    Raises:
        ValueError, TypeError, KeyError, RuntimeError: the fields do not fit the tensor.
    """
    if "dtype" in fields:
        flat = flat.view(TORCH_DTYPES[fields["dtype"]])
    if "shape" not in fields:
        return flat
    shape, stride = fields["shape"], fields.get("stride")
    if stride is None:
        return flat.reshape(shape)
    flat = flat.reshape(-1)
    restored = flat.as_strided(shape, stride)  # refuses what lies outside of the memory
    if restored.numel() != flat.numel() or not _is_dense(restored):
        raise ValueError(f"strides {stride} for shape {shape}")
    return restored


def _is_plain(tensor: Tensor) -> bool:
    return tensor.is_contiguous() and (
        tensor.numel() == 0 or tensor.stride() == _contiguous_stride(tensor.shape)
    )


def _contiguous_stride(shape: torch.Size) -> tuple[int, ...]:
    stride, step = [], 1
    for size in reversed(shape):
        stride.append(step)
        step *= size
    return tuple(reversed(stride))


def _is_dense(tensor: Tensor) -> bool:
    expected = 1
    for step, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if step != expected:
            return False
        expected *= size
    return True


def array_refusal(array: np.ndarray) -> str | None:
    """Why a numpy array cannot be stored, or None."""
    if type(array) is not np.ndarray:
        return f"{type(array).__qualname__} (a numpy subclass)"
    if not NUMPY_DTYPE.fullmatch(array.dtype.str):
        return f"numpy array of dtype {array.dtype}"
    return None


def store_array(array: np.ndarray) -> tuple[Tensor, dict[str, Any]]:
    """Return the array's memory as a flat uint8 tensor and the fields that undo it."""
    fields: dict[str, Any] = {"dtype": array.dtype.str, "shape": list(array.shape)}
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        fields["order"] = "F"
    if array.nbytes == 0:
        return torch.empty(0, dtype=torch.uint8, device="cpu"), fields
    flat = array.ravel(order=fields.get("order", "C"))
    flat = (
        flat.view(np.uint8) if flat.dtype.kind not in "mM" else flat.view(np.int64).view(np.uint8)
    )
    return torch.from_numpy(flat if flat.flags.writeable else flat.copy()), fields


def restore_array(flat: Tensor, fields: dict[str, Any]) -> np.ndarray:
    """Undo `store_array`; the result uses ``flat``'s memory."""
    dtype, shape = numpy_dtype(fields["dtype"]), tuple(fields["shape"])
    if fields.get("order", "C") not in ("C", "F"):
        raise ValueError(f"array order {fields['order']!r}")
    if flat.numel() == 0:
        if dtype.itemsize and 0 not in shape:
            raise ValueError(f"no bytes for an array of shape {shape}")
        return np.zeros(shape, dtype, order=fields.get("order", "C"))
    array = flat.numpy().view(dtype)
    return array.reshape(shape, order=fields.get("order", "C"))


LABEL = re.compile(r"[^A-Za-z0-9_.-]+")


def tensor_name(index: int, path: str) -> str:
    """A unique ASCII name that a person can place: ``12 model.fc1.weight``."""
    return f"{index} {label(path)}"


def label(path: str) -> str:
    """The part of a tensor's name that says where it stood in the state."""
    return LABEL.sub(".", path).strip(".")[-120:]
