"""Fixtures for every test: programs that run in a process of their own (``forked.py``)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = ("forked",)
