"""What it takes to open a page of ``loopwright explain`` in Chromium, beside a page that holds nothing.

    python benchmarks/page_opening.py PAGE.html... [--rounds N]

For each, the median time from navigation to the end of its load event, and the CPU time of its main thread
until then (script, layout, all tasks).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, sync_playwright

PARTS = ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration", "TaskDuration")
LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def opened(browser: Browser, page: Path) -> dict[str, float]:
    """Milliseconds of one opening in a new context."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    protocol = context.new_cdp_session(tab)
    protocol.send("Performance.enable", {"timeDomain": "threadTicks"})
    tab.goto(page.resolve().as_uri())
    metrics = {
        one["name"]: one["value"] for one in protocol.send("Performance.getMetrics")["metrics"]
    }
    found = {name: 1000 * metrics[name] for name in PARTS}
    found["load"] = float(tab.evaluate(LOADED))
    context.close()
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        null = Path(folder) / "null.html"
        null.write_text("<!doctype html><title>nothing</title><p>nothing")
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--headless", "--no-sandbox", "--disable-gpu"],
        )
        pages = [null, null, *given.pages]
        rounds = [[opened(browser, page) for page in pages] for _ in range(given.rounds)]
        browser.close()
        print("| page | kB | load event, ms | CPU ms | script | layout | style |")
        print("|---|---|---|---|---|---|---|")
        for at, page in enumerate(pages):
            row = {name: median(one[at][name] for one in rounds) for name in ("load", *PARTS)}
            print(
                f"| {page.name} | {page.stat().st_size / 1000:,.0f} | {row['load']:.0f} | "
                f"{row['TaskDuration']:.0f} | {row['ScriptDuration']:.0f} | {row['LayoutDuration']:.0f} | "
                f"{row['RecalcStyleDuration']:.0f} |"
            )


if __name__ == "__main__":
    main()
