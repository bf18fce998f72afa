"""Every Python example of the documentation runs as it stands."""

from __future__ import annotations

import ast

import pytest

from ground.pages import PAGES, ROOT, blocks

WITH_CODE = [page for page in PAGES if any(blocks(page))]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples(page, tmp_path, monkeypatch):
    """The blocks of one page run in order, in one namespace, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    space = {"__name__": "__main__"}
    for line, text, raises in blocks(page):
        tree = ast.increment_lineno(ast.parse(text), line - 1)
        code = compile(tree, str(page), "exec")
        if raises is None:
            exec(code, space)
        else:
            with pytest.raises(Exception) as caught:
                exec(code, space)
            assert type(caught.value).__name__ == raises, caught.value
