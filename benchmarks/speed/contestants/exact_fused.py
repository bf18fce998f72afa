"""``run.compile_step`` with torch's fused optimizer: no wait for the device at all."""

from __future__ import annotations

from contestants import exact
from loopwright.train.update import fused


def fuse(work):
    """Let a workload's optimizer be torch's fused one."""
    make = work.optimizer

    def made(parameters):
        optimizer = make(parameters)
        fused.fuse(optimizer)
        return optimizer

    work.optimizer = made


class Contestant(exact.Contestant):
    """The captured step; the optimizer's option ``fused=True`` is the user's."""

    def __init__(self, work):
        fuse(work)
        super().__init__(work)
