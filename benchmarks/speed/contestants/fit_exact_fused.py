"""``lw.fit(capture="exact")`` with torch's fused optimizer, for a GPU: its counters are on the device."""

from __future__ import annotations

from contestants import exact_fused, fit_exact


class Contestant(fit_exact.Contestant):
    """One call, captured; the optimizer's option ``fused=True`` is the user's."""

    def __init__(self, work):
        exact_fused.fuse(work)
        super().__init__(work)
