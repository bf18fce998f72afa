"""``run.compile_step`` in bf16 with a fused optimizer."""

from __future__ import annotations

from typing import ClassVar

from contestants import exact_fused


class Contestant(exact_fused.Contestant):
    """The captured step under autocast."""

    settings: ClassVar[dict] = {"precision": "bf16"}
