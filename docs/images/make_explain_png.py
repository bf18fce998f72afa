"""Make explain.png: explain the tutorial loop, open the page at its training loop, take a screenshot.

    .venv/bin/python docs/images/make_explain_png.py

Needs a Chromium on PATH (or CHROMIUM=/path/to/it).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

TARGET = Path(__file__).with_name("explain.png")
WIDTH, HEIGHT = 1200, 930


def main():
    chromium = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    )
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "loopwright", "explain", "--quiet"]
        subprocess.run(command, cwd=folder, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.goto((Path(folder) / "explain-tutorial.html").as_uri())
            row = page.locator(".row", has_text="in tqdm(trainloader")
            row.evaluate("node => scrollTo(0, node.getBoundingClientRect().top + scrollY - 132)")
            page.locator(".row", has_text="target = model(data)").locator("[data-t=target]").hover()
            page.wait_for_timeout(500)
            page.screenshot(path=TARGET)
            browser.close()
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
