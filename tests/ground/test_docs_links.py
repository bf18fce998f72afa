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
    used, strings = set(), set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.add(node.value)
            if isinstance(node, ast.keyword) and node.arg == "slug":
                used |= {
                    part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)
                }
    text = (ROOT / "docs" / "errors.md").read_text()
    entries = set(re.findall(r"^### ([a-z0-9-]+)$", text, re.MULTILINE))
    assert used - entries == set(), "without an entry"
    assert entries - strings == set(), "no longer raised"


def test_no_host_but_the_licence():
    """Pages name no place to download from; what is installed comes from where pip is told to look."""
    for page in PAGES:
        assert (
            re.findall(r"https?://(?!www\.apache\.org|doi\.org|arxiv\.org)\S+", page.read_text())
            == []
        )
