"""Fixtures for every test: programs that run in a process of their own (``forked.py``)."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import pytest

# Other bits come with other thread counts, and tests that run side by side need one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is started in the background of a script (a CI's, with nohup) ignores Ctrl-C, and programs that it
# starts do too: tests of signals need it heard.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = ("forked",)


def pytest_collection_finish() -> None:
    """Leave torch and the tests' own modules out of each collection: 0.3 s, or 0.01 s, each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def nothing_stays_compiled():
    """Forget what a file's tests have compiled: where anything is, forwards are not looked into."""
    yield
    if "torch._dynamo.eval_frame" not in sys.modules:
        return
    import torch

    from loopwright.observe.swap import anything_compiled

    if anything_compiled():
        torch._dynamo.reset()
