"""``run.compile_step(mode="fast")`` in bf16."""

from __future__ import annotations

from contestants import tuned


class Contestant(tuned.Captured):
    """One long visible loop, after what is compiled or not was decided."""

    def __init__(self, work):
        super().__init__(work, {"precision": "bf16", "mode": "fast"})
