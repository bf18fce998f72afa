"""CPU milliseconds and modules of `import loopwright`, beside torch alone and beside nothing.

    python benchmarks/import_time.py [REPEATS]

Each number is the median of fresh processes, taken in turns; "null" is the same thing measured again, and
what lies between a row and its null is noise.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
PROGRAM = """
import sys, time
before = len(sys.modules)
start = time.process_time()
{}
print(time.process_time() - start, len(sys.modules) - before)
"""
ROWS = {
    "nothing": "pass",
    "import loopwright": "import loopwright",
    "import torch": "import torch",
    "import torch, null": "import torch",
    "lw.Run": "import loopwright; loopwright.Run",
    "loopwright.cli.main": "import loopwright.cli.main",
}


def measure(statement):
    """One fresh process: (seconds, modules)."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(statement)],
        env={"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, modules = done.stdout.split()
    return float(seconds), int(modules)


def main():
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    seconds = {name: [] for name in ROWS}
    modules = {}
    for _ in range(repeats):
        for name, statement in ROWS.items():
            taken, modules[name] = measure(statement)
            seconds[name].append(taken)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    for name, values in seconds.items():
        print(
            f"{name:22} {1000 * statistics.median(values):8.1f} ms CPU  {modules[name]:5} modules"
        )


if __name__ == "__main__":
    main()
