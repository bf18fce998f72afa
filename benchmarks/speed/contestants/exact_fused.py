"""``run.compile_step`` with torch's fused optimizer: no wait for the device at all."""

from __future__ import annotations

from contestants import exact

NOT_WITH_IT = ("foreach", "capturable", "differentiable", "decoupled_weight_decay")


def fuse(work):
    """Let a workload's optimizer be torch's fused one."""
    make = work.optimizer

    def fused(parameters):
        plain = make(parameters)
        options = {k: v for k, v in plain.defaults.items() if k not in NOT_WITH_IT}
        return type(plain)(plain.param_groups[0]["params"], **(options | {"fused": True}))

    work.optimizer = fused


class Contestant(exact.Contestant):
    """The captured step; the optimizer's option ``fused=True`` is the user's."""

    def __init__(self, work):
        fuse(work)
        super().__init__(work)
