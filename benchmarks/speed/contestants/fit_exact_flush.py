"""``lw.fit(capture="exact")`` where denormal numbers are zero."""

from __future__ import annotations

import torch

from contestants import fit_exact


class Contestant(fit_exact.Contestant):
    """One call, captured, after ``torch.set_flush_denormal(True)``."""

    def __init__(self, work):
        torch.set_flush_denormal(True)
        super().__init__(work)
