"""A clock that goes on only when it is told to, and code of a library that tells it."""

from __future__ import annotations

import json
from typing import Any

CLOCK = """
import torch


class Clock:
    now = 0

    def __call__(self):
        return self.now

    def takes(self, microseconds):
        self.now += 1000 * microseconds


CLOCK = Clock()
"""


def library(source: str) -> dict[str, Any]:
    """Run a source with ``CLOCK`` and ``torch`` as a library's code, which is not followed; its names."""
    space: dict[str, Any] = {}
    exec(compile(CLOCK + source, json.__file__, "exec"), space)
    return space
