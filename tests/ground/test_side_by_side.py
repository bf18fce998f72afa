"""The comparison that the README shows is the one that the program prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_equal_and_as_in_the_readme():
    """Both loops agree to the last bit, and the README shows what they print, to six digits."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "side_by_side.py"],
        capture_output=True,
        text=True,
        check=False,
        env=None,
    )
    assert done.returncode == 0, done.stderr
    losses = re.findall(r"^\d +(\d\.\d+) +(\d\.\d+)$", done.stdout, re.MULTILINE)
    assert len(losses) == 3
    readme = (ROOT / "README.md").read_text()
    shown = re.findall(r"^\d +(\d\.\d+) +(\d\.\d+)$", readme, re.MULTILINE)
    # Another processor may sum in another order: equal here to each other, near there to these.
    assert [hand for hand, _ in losses] == [ours for _, ours in losses]
    assert [f"{float(a):.4f}" for a, _ in losses] == [f"{float(a):.4f}" for a, _ in shown]
