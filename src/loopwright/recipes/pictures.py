"""Reading picture files with Pillow, which the ``recipes`` extra installs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from loopwright.errors import DataError, UsageError

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def picture_files(source: Path) -> list[Path]:
    """Return the file itself, or the picture files in a folder and below it, sorted.

    Raises:
        UsageError: there is no such file or folder, or no picture in it.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UsageError(f"there is no file or folder {source}", slug="no-data")
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UsageError(
            f"there is no picture in {source}",
            slug="no-data",
            hint="looked for " + " ".join(sorted(SUFFIXES)),
        )
    return found


def read_picture(path: Path, size: int, mode: str = "RGB") -> Tensor:
    """Return a picture as uint8 of shape (channels, size, size), turned upright.

    The shorter side is brought to ``size`` and the longer one cut at both ends.

    Args:
        path: a file that Pillow can read.
        size: pixels of a side.
        mode: ``"RGB"`` for three channels, ``"L"`` for one.

    Raises:
        UsageError: Pillow is not installed.
        DataError: the file is broken, or not a picture.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise UsageError(
            "pictures are read by Pillow, which is not installed",
            slug="missing-extra",
            hint="pip install 'loopwright[recipes]'",
        ) from None
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert(mode)
            square = ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"the picture cannot be read: {error}",
            slug="broken-picture",
            where=str(path),
            hint="remove or replace the file",
        ) from None
    pixels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8)
    return pixels.view(size, size, -1).permute(2, 0, 1).contiguous()
