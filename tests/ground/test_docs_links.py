"""Links in the documentation lead somewhere."""

from __future__ import annotations

import ast
import re

import pytest

from ground.pages import PAGES, ROOT, anchors, links


def relative(page):
    """A test id."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links(page):
    """Every relative link has its file and its heading; nothing is loaded from elsewhere."""
    broken = []
    for target in links(page):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_navigation():
    """mkdocs.yml names every page of docs/, and each one exists."""
    named = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    there = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert named == there


def test_every_error_is_documented():
    """Each slug that the source uses has its entry in docs/errors.md, and no entry is left over."""
    used = {
        word.value.value
        for file in (ROOT / "src").rglob("*.py")
        for word in ast.walk(ast.parse(file.read_text()))
        if isinstance(word, ast.keyword)
        and word.arg == "slug"
        and isinstance(word.value, ast.Constant)
    }
    text = (ROOT / "docs" / "errors.md").read_text()
    entries = set(re.findall(r"^### ([a-z0-9-]+)$", text, re.MULTILINE))
    assert used - entries == set(), "without an entry"
    assert entries - used == set(), "no longer raised"


def test_no_host_but_the_licence():
    """Pages name no place to download from; what is installed comes from where pip is told to look."""
    for page in PAGES:
        assert (
            re.findall(r"https?://(?!www\.apache\.org|doi\.org|arxiv\.org)\S+", page.read_text())
            == []
        )
