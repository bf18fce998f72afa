"""Make report.png, the picture of the README: train the digits, open the report, take a screenshot.

    .venv/bin/python docs/images/make_report_png.py

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

TARGET = Path(__file__).with_name("report.png")


def main():
    chromium = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "runs" / "digits" / "1"
        command = [sys.executable, "-m", "loopwright", "train", "digits", "--out", "runs/digits/1"]
        subprocess.run(command, cwd=folder, check=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            page.goto((run / "report.html").as_uri())
            page.wait_for_timeout(500)
            page.screenshot(path=TARGET, clip={"x": 0, "y": 0, "width": 1200, "height": 862})
            browser.close()
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
