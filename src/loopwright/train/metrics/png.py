"""Small pictures as PNG data URIs, made by the standard library.

Source: W3C, Portable Network Graphics, third edition (2025), sections 5, 9 and 11.
"""

from __future__ import annotations

import base64
import struct
import zlib

import torch
from torch import Tensor

__all__ = ["data_uri", "encode_png"]

_COLOUR_TYPE = {1: 0, 3: 2}
_LONGEST_SIDE = 128


def encode_png(pixels: bytes, *, width: int, height: int, channels: int) -> bytes:
    r"""Return a PNG file of 8 bits per channel.

    Args:
        pixels: ``height × width × channels`` bytes, row by row, from the top left.
        width: of a row.
        height: number of rows.
        channels: 1 (grey) or 3 (red, green, blue).

    >>> encode_png(b"\xff", width=1, height=1, channels=1)[1:4]
    b'PNG'
    """
    stride = width * channels
    # Every row begins with its filter, 0: none.
    rows = b"".join(b"\0" + pixels[i * stride : (i + 1) * stride] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPE[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    )


def data_uri(image: Tensor) -> str | None:
    """Return ``image`` as a PNG data URI, or None where it is no picture.

    Bytes and floats from 0 to 1 are shown as they are; any other range (normalised inputs) is
    stretched from its own smallest to its own largest value. Sides above 128 are averaged down.

    Args:
        image: ``(1, H, W)``, ``(3, H, W)`` or ``(H, W)``, on any device.

    >>> data_uri(torch.zeros(1, 8, 8))[:22]
    'data:image/png;base64,'
    """
    if image.ndim == 2:
        image = image.unsqueeze(0)
    if image.ndim != 3 or image.shape[0] not in _COLOUR_TYPE or image.numel() == 0:
        return None
    is_bytes = image.dtype == torch.uint8
    values = image.detach().to("cpu", torch.float32)
    if not values.isfinite().all():
        values = values.nan_to_num(0.0, 0.0, 0.0)
    scale = max(values.shape[1:]) / _LONGEST_SIDE
    if scale > 1:
        size = [max(1, round(side / scale)) for side in values.shape[1:]]
        values = torch.nn.functional.interpolate(values[None], size=size, mode="area")[0]
    if not is_bytes:
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > 1:
            values = (values - low) / max(high - low, 1e-12)
        values = values * 255
    pixels = values.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
    height, width, channels = pixels.shape
    body = encode_png(
        bytes(pixels.flatten().tolist()), width=width, height=height, channels=channels
    )
    return "data:image/png;base64," + base64.b64encode(body).decode()
