"""``lw.fit(capture="exact", precision="bf16")`` with torch's fused optimizer."""

from __future__ import annotations

from typing import ClassVar

from contestants import fit_exact_fused


class Contestant(fit_exact_fused.Contestant):
    """One call, captured, under autocast."""

    settings: ClassVar[dict] = {"capture": "exact", "precision": "bf16"}
