"""``run.loop`` where denormal numbers are zero: one line at the program's top."""

from __future__ import annotations

import torch

from contestants import loop


class Contestant(loop.Contestant):
    """The visible loop, after ``torch.set_flush_denormal(True)``."""

    def __init__(self, work):
        torch.set_flush_denormal(True)
        super().__init__(work)
