"""The pytest plugin: ``pytest --loopwright`` watches every test, ``training_check`` one.

Neither torch nor anything else is imported before one of them is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from loopwright.checker.watching import watch

SEEN = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--loopwright``."""
    parser.getgroup("loopwright").addoption(
        "--loopwright",
        action="store_true",
        help="watch every test for mistakes in its training loop; an error or a warning fails it",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Watch a test, and fail it for what was found."""
    if not item.config.getoption("--loopwright"):
        return (yield)
    from loopwright.checker.watching import watch

    with watch() as seen:
        item.stash[SEEN] = seen
        result = yield
    if seen.findings:
        item.add_report_section("call", "loopwright", str(seen))
    if seen.mistakes:
        pytest.fail(str(seen), pytrace=False)
    return result


@pytest.fixture
def training_check(request: pytest.FixtureRequest) -> Iterator[watch]:
    """Watch this test's training, and fail it for an error or a warning."""
    from loopwright.checker.watching import watch
    from loopwright.observe.watch import Observer

    if request.config.getoption("--loopwright") or Observer.active is not None:
        yield watch()  # the test is watched as a whole
        return
    with watch() as seen:
        yield seen
    if seen.mistakes:
        pytest.fail(str(seen), pytrace=False)
