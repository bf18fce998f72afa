"""What ``--tune`` chooses on two cores with AVX-512; but for the digits numbers are rounded otherwise.

One long loop is cut into blocks. The perceptrons are replayed, several turns in one call of ``lw.fit``:
compiled they take as long. Fashion-MNIST's is updated by torch's fused kernel, denormal numbers as zero.
"""

from __future__ import annotations

import tempfile
from time import perf_counter

import torch
from torch.utils.data import DataLoader

import loopwright as lw
from contestants import fit_exact, fit_exact_fused

CHOSEN = {
    "Fashion CNN": {"precision": "bf16", "channels_last": True},
    "char transformer": {"precision": "bf16", "mode": "fast"},
}
"""Beside capture, exact where no mode is given."""
WARM = 8
"""Turns that record and prove."""


def Contestant(work):  # noqa: N802 - as the other modules' class
    """Return what trains that work."""
    if work.name in CHOSEN:
        return Captured(work)
    if work.name == "Fashion MLP":
        torch.set_flush_denormal(True)
        return fit_exact_fused.Contestant(work)
    return fit_exact.Contestant(work)


class Captured:
    """The captured step of one long visible loop."""

    def __init__(self, work, chosen=None):
        chosen = CHOSEN[work.name] if chosen is None else chosen
        mode = chosen.get("mode", "exact")
        self.work, criterion = work, work.criterion
        self.place = tempfile.TemporaryDirectory()
        if chosen.get("channels_last"):
            work.model.to(memory_format=torch.channels_last)
        self.run = run = lw.Run(
            f"{self.place.name}/run",
            model=work.model,
            optimizer=work.optimizer(work.model.parameters()),
            device=work.device.type,
            precision=chosen.get("precision", "fp32"),
        )
        self.train = run.compile_step(lambda b: criterion(run.model(b[0]), b[1]), mode=mode)
        loader = DataLoader(work.data, batch_size=work.batch_size, shuffle=True)
        self.turns = iter(run.loop(loader, steps=10_000_000))
        self.block(WARM)
        while mode == "fast" and not any("compiled" in note for note in run.notes):
            self.block(WARM)  # until it is decided what they are made by

    def block(self, steps):
        """Train so many turns more of the loop."""
        started = perf_counter()
        for _ in range(steps):
            self.train(next(self.turns))
        self.work.settle()
        assert self.train.why_not is None, self.train.why_not
        return perf_counter() - started
