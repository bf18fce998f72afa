"""The ranks that this process has met; what may run alone or among many looks here and imports no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopwright.parallel.world import World

WORLD: World | None = None
"""None where there is one process only."""
PADDING: bool = False
"""The turn that is being made has a batch that counts for nothing: metrics take nothing in."""
