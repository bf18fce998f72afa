"""Makes the helpers beside these tests importable: ``from small import make``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from accelerator import accelerator, at_once, kernels  # noqa: F401 - fixtures
