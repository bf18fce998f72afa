"""``loopwright recipes``: what ``loopwright train NAME`` knows by name."""

from __future__ import annotations


def recipes() -> None:
    """List the built-in recipes.

    Each is one readable file that can be copied; ``loopwright train NAME --help`` shows its flags.
    """
    from rich.table import Table

    from loopwright.cli.terminal import console
    from loopwright.recipes import registry

    table = Table.grid(padding=(0, 3))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column()
    for name, summary in registry.summaries().items():
        table.add_row(name, summary)
    out = console()
    out.print(table)
    out.print()
    out.print("loopwright train NAME --help  [dim]shows a recipe's flags[/]")
    out.print("loopwright new FILE.py        [dim]writes a recipe of your own to start from[/]")
