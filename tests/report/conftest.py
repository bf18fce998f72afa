"""Sample records as fixtures, and a Chromium to open their pages in."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

DRAWN = """() => [...document.querySelectorAll('.plot')]
    .every(p => p.closest('details:not([open])') || p.querySelector('svg[tabindex]'))"""


def until(page, expression, argument=None):
    """Wait until an expression holds; Playwright's own wait is forbidden by the page's policy."""
    for _ in range(200):
        if page.evaluate(expression, argument):
            return
        page.wait_for_timeout(25)
    pytest.fail(f"never became true: {expression}")


def pytest_configure(config):
    """Register the mark of tests that need a browser."""
    config.addinivalue_line("markers", "browser: opens a page in Chromium")


def _load(name):
    spec = importlib.util.spec_from_file_location(
        f"report_{name}", Path(__file__).parent / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def samples():
    """The module of sample records."""
    return _load("samples")


@pytest.fixture(name="until")
def until_fixture():
    """``until(page, expression, argument)`` waits until the expression holds."""
    return until


@pytest.fixture(scope="session")
def chromium():
    """A running Chromium, or a skip that says what is missing."""
    where = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if where is None:
        pytest.skip("no chromium on PATH (Debian and Ubuntu: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=where, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, tmp_path):
    """``visit(html, **context)`` opens a page; at the end it must have logged and asked for nothing."""
    contexts, trouble = [], []

    def open_page(html, **options):
        path = tmp_path / f"page-{len(contexts)}.html"
        path.write_text(html, encoding="utf-8")
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("data:", path.as_uri()))
                or trouble.append(f"request: {request.url[:200]}")
            ),
        )
        page.goto(path.as_uri())
        until(page, DRAWN)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []
