"""What the check of the first steps costs a `loopwright train`, beside the same thing against itself.

    python benchmarks/first_steps.py [ROUNDS] [WORDS OF THE COMMAND]

Each round trains three times in a process of its own, in turn: with the check, without, and without again
("null"). Printed are medians of CPU seconds of the whole process.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile

KINDS = {"checked": [], "plain": ["--no-check"], "null": ["--no-check"]}


def cpu_seconds(words):
    """User and system time of one command."""
    before = os.times()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "loopwright", "train", *words, "--quiet", "--out", folder]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    words = sys.argv[2:] or ["digits", "--epochs", "10"]
    taken = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, flags in KINDS.items():
            taken[kind].append(cpu_seconds([*words, *flags]))
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}; {words}"
    )
    middle = {kind: statistics.median(values) for kind, values in taken.items()}
    for kind, value in middle.items():
        more = value - middle["plain"]
        print(
            f"{kind:8} {value:6.2f} s  {more:+.2f} s  "
            f"(from {min(taken[kind]):.2f} to {max(taken[kind]):.2f})"
        )


if __name__ == "__main__":
    main()
