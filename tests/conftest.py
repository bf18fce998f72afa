"""Fixtures for every test: programs that run in a process of their own (``forked.py``)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Other bits come with other thread counts, and tests that run side by side need one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = ("forked",)
