"""Fixtures of the fault tests: a bench (a warmed process with the shim), and runs that nobody disturbed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import drawn
import shim
from bench import Bench, run_whole


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    """A warmed process with the shim, for the whole session."""
    if shim.library() is None:
        pytest.skip("no C compiler for the fault shim")
    made = Bench(tmp_path_factory.mktemp("bench"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def whole(bench):
    """``whole(settings)``: the uninterrupted run of these settings; made once."""
    kept = {}

    def get(settings):
        key = drawn.say(settings)
        if key not in kept:
            kept[key] = run_whole(bench.case(f"whole-{len(kept)}", settings))
        return kept[key]

    return get


@pytest.fixture
def case(bench, request):
    """``case(settings)``: a new folder in which a program of these settings can run; removed at the end."""
    made = []

    def new(settings):
        name = f"{request.node.name[:40]}-{len(made)}".replace("/", "-")
        made.append(bench.case(name, settings))
        return made[-1]

    yield new
    for one in made:
        shutil.rmtree(one.folder, ignore_errors=True)
