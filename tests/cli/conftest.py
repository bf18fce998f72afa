"""One trained run that the tests of the other verbs read, and must leave as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The table of bad inputs lies in modules beside its test.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def trained(program_server, tmp_path_factory) -> Path:
    """Give a run folder: digits, two epochs, trained by the command line."""
    place = tmp_path_factory.mktemp("trained")
    words = ["train", "digits", "--epochs", "2", "--hidden", "64", "--ema", "0.9"]
    program = program_server.start(["-m", "loopwright", *words], cwd=place)
    rc, out, err = program.wait()
    assert rc == 0, err
    assert "runs/digits/1" in out
    return place / "runs" / "digits" / "1"
