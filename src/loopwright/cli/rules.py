"""``loopwright rules [RULE]``: what ``check`` knows, one page a rule."""

from __future__ import annotations

from pathlib import Path


def rules(rule: str | None = None, /) -> None:
    """List the rules of check, or print the page of one.

    Args:
        rule: A rule's id.
    """
    from loopwright.checker import registry, suppress
    from loopwright.cli.terminal import console

    out = console()
    if rule is None:
        from rich.table import Table

        table = Table.grid(padding=(0, 3))
        table.add_column(style="bold cyan", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column()
        for name, about in registry.about().items():
            table.add_row(name, registry.severity(name), about)
        out.print(table)
        return
    suppress.check_names([rule], registry.names(), "rules")
    print(page(rule), end="")


def page(rule: str) -> str:
    """The page of a rule, as it stands in the documentation."""
    import loopwright

    package = Path(loopwright.__file__).parent
    for folder in (package / "checker" / "pages", package.parents[1] / "docs" / "rules"):
        file = folder / f"{rule}.md"
        if file.is_file():
            return file.read_text(encoding="utf-8")
    from loopwright.checker import registry

    return f"# {rule}\n\n{registry.about()[rule]}\n"
