"""``python3 start.py mutants``: make each mistake of ``mutant_table.py`` in a copy, and see the tests fail.

A test that passes with the mistake in the engine proves nothing. Every mutant is applied to a copy of the
sources in a temporary folder and its tests are run there; each of them has to fail. First they all run
without a mistake, and have to pass.

Exit code 0: every mistake was caught by every test that is named for it.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

from mutant_table import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 900
PARTS = ("src", "tests", "pyproject.toml")


@dataclass
class Outcome:
    """What the tests of one mutant did: those that passed, or why they could not be run."""

    mutant: Mutant
    seconds: float
    passed: list[str] = field(default_factory=list)
    wrong: str = ""

    @property
    def verdict(self) -> str:
        """In one word."""
        if self.wrong:
            return "ERROR"
        return "SURVIVED" if self.passed else "caught"


def copy(folder: Path) -> Path:
    """Copy what the tests need."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(
                ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / part, folder / part)
    return folder


def find(root: Path, mutant: Mutant) -> str:
    """Why a mutant cannot be applied; empty when it can."""
    path = root / "src" / "loopwright" / mutant.file
    if not path.is_file():
        return f"there is no file {mutant.file}"
    count = path.read_text().count(mutant.old)
    return "" if count == 1 else f"the text stands {count} times in {mutant.file}: {mutant.old!r}"


def run_tests(folder: Path, nodes: list[str], *words: str) -> dict[str, bool]:
    """Run tests in a copy; node -> whether it passed, parameters included.

    Raises:
        RuntimeError: pytest itself failed, with what it printed.
    """
    out = folder / "results.xml"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-m", "", "-q", "--tb=no", "-p", "no:cacheprovider",
               f"--junitxml={out}", *words, *(f"tests/faults/{node}" for node in nodes)]  # fmt: skip
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    if done.returncode not in (0, 1) or not out.exists():
        raise RuntimeError(f"{done.stdout[-3000:]}{done.stderr[-2000:]}")
    found = {}
    for test in ET.parse(out).getroot().iter("testcase"):
        file = test.get("classname", "").rpartition(".")[2]
        found[f"{file}.py::{test.get('name')}"] = all(
            test.find(kind) is None for kind in ("failure", "error")
        )
    return found


def not_failing(nodes: tuple[str, ...], found: dict[str, bool]) -> list[str]:
    """The nodes of which no test failed."""
    return [
        node for node in nodes
        if all(passed for name, passed in found.items()
               if name == node or name.startswith(f"{node}["))
    ]  # fmt: skip


def try_mutant(folder: Path, mutant: Mutant) -> Outcome:
    """Apply a mutant in a copy, run its tests, and take it back."""
    begun = time.monotonic()
    if wrong := find(folder, mutant):
        return Outcome(mutant, 0.0, wrong=wrong)
    path = folder / "src" / "loopwright" / mutant.file
    whole = path.read_text()
    path.write_text(whole.replace(mutant.old, mutant.new))
    try:
        compile(path.read_text(), str(path), "exec")
        found = run_tests(folder, list(mutant.caught_by))
    except subprocess.TimeoutExpired:
        found = {}  # nothing came to an end: that is noticed
        return Outcome(mutant, time.monotonic() - begun)
    except (RuntimeError, SyntaxError) as error:
        return Outcome(mutant, time.monotonic() - begun, wrong=str(error))
    finally:
        path.write_text(whole)
    return Outcome(mutant, time.monotonic() - begun, not_failing(mutant.caught_by, found))


def lane(folder: Path, waiting: queue.Queue[Mutant], outcomes: list[Outcome]) -> None:
    """Try one mutant after the other in a copy of its own."""
    folder.mkdir()
    copy(folder)
    while True:
        try:
            mutant = waiting.get_nowait()
        except queue.Empty:
            return
        outcome = try_mutant(folder, mutant)
        outcomes.append(outcome)
        print(line(outcome), flush=True)


def line(outcome: Outcome) -> str:
    """One row of the table."""
    mutant = outcome.mutant
    text = f"{outcome.verdict:<9}{outcome.seconds:5.0f} s  {mutant.name}  ({mutant.file})"
    if outcome.wrong:
        text += f"\n    {outcome.wrong}"
    for node in outcome.passed:
        text += f"\n    passes all the same: {node}"
    return text


def baseline(folder: Path, chosen: list[Mutant], jobs: int) -> list[str]:
    """The tests that fail without any mistake."""
    nodes = sorted({node for mutant in chosen for node in mutant.caught_by})
    copy(folder)
    found = run_tests(folder, nodes, "-n", str(jobs), "--dist", "worksteal")
    return [node for node, passed in found.items() if not passed]


def main(words: list[str]) -> int:
    """Try every mutant; returns the exit code."""
    parser = argparse.ArgumentParser(prog="start.py mutants", description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="those with these words in their name")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (2)")
    parser.add_argument(
        "--no-baseline", action="store_true", help="do not run the tests unchanged first"
    )
    asked = parser.parse_args(words)
    chosen = [mutant for mutant in MUTANTS if asked.only in mutant.name]
    if stale := [text for mutant in chosen if (text := find(ROOT, mutant))]:
        print(
            "error: rows of mutant_table.py that no longer fit the engine:",
            *stale,
            sep="\n  ",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        base = Path(name)
        if not asked.no_baseline:
            (base / "unchanged").mkdir()
            if failing := baseline(base / "unchanged", chosen, asked.jobs):
                print("error: these fail without a mistake:", *failing, sep="\n  ", file=sys.stderr)
                return 2
            print("without a mistake every test passes", flush=True)
        waiting: queue.Queue[Mutant] = queue.Queue()
        for mutant in chosen:
            waiting.put(mutant)
        outcomes: list[Outcome] = []
        lanes = [
            threading.Thread(target=lane, args=(base / str(number), waiting, outcomes))
            for number in range(asked.jobs)
        ]
        for one in lanes:
            one.start()
        for one in lanes:
            one.join()
    caught = sum(outcome.verdict == "caught" for outcome in outcomes)
    tests = len({node for mutant in chosen for node in mutant.caught_by})
    print(f"{caught} of {len(chosen)} mistakes caught, by {tests} tests")
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
