"""How many of the mistakes in a folder of programs does check find, and what does it say of healthy ones?

``python benchmarks/check_score.py FOLDER [--jobs 2] [--out FILE.json] [WORD ...]``: FOLDER holds
``*/case.toml`` with ``rule``, ``line`` and optionally ``also``, ``lines``, beside ``buggy.py`` and
``fixed.py`` (or ``clean.py`` alone), and healthy programs in ``clean/*.py``; or nothing but healthy programs.
Found means: one of the rules on one of the lines. A false alarm is an error or a warning in a healthy program
(or a hint that the pair is about). WORDs choose cases by folder.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LIMIT_S = 180
MANY = ("mp.spawn", "multiprocessing", "torchrun", "torch.distributed.run")


def watch(program: Path, out: Path) -> None:
    """Run one program observed in this process, and write what was found."""
    from loopwright.checker.session import Session

    session = Session()
    session.start()
    sys.argv = [str(program)]
    sys.path[0] = str(program.parent)
    error = None
    try:
        runpy.run_path(str(program), run_name="__main__")
    except SystemExit:
        pass
    except BaseException:  # noqa: BLE001  whatever a program raises is told
        error = traceback.format_exc()
    found = session.end(ended_well=error is None)
    rows = [[one.rule, one.severity, one.place.line, one.message] for one in found]
    notes = [*session.notes, *filter(None, [session.observer.failure, error])]
    steps = session.accounts.optimizers.total_steps
    out.write_text(json.dumps({"findings": rows, "notes": notes, "steps": steps}))


def alone(program: Path, folder: Path) -> dict:
    """One program in a fork of this process, which has imported torch."""
    out = folder / "found.json"
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.chdir(folder)
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        try:
            watch(program, out)
        finally:
            os._exit(0)
    end = time.monotonic() + LIMIT_S
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        time.sleep(0.02)
    if not out.exists():
        return {"findings": [], "notes": ["ended without a word"], "steps": 0}
    return json.loads(out.read_text())


def through_command_line(program: Path, folder: Path) -> dict:
    """A program that starts processes."""
    out = folder / "found.json"
    words = [sys.executable, "-m", "loopwright", "check", f"--json={out}", str(program)]
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"findings": [], "notes": [f"no end after {LIMIT_S} s"], "steps": 0}
    if not out.exists():
        return {"findings": [], "notes": [done.stderr.decode()[-500:]], "steps": 0}
    told = json.loads(out.read_text())
    rows = [[one["rule"], one["severity"], one["line"], one["message"]] for one in told["findings"]]
    return {"findings": rows, "notes": told["notes"], "steps": told["observed"]["steps"]}


def run(case: Path, program: Path) -> dict:
    """What was found, and what of it is wrong."""
    many = any(word in program.read_text() for word in MANY)
    with tempfile.TemporaryDirectory() as folder:
        seen = (through_command_line if many else alone)(program, Path(folder))
    about_case = case / "case.toml"
    told = tomllib.loads(about_case.read_text()) if about_case.exists() else {}
    rules = {told.get("rule"), *told.get("also", [])}
    lines = {told.get("line"), *told.get("lines", [])}
    name = f"{case.name}/{program.stem}"
    seen |= {"name": name, "rule": told.get("rule"), "faulty": program.stem == "buggy"}
    if seen["faulty"]:
        seen["found"] = any(
            rule in rules and line in lines for rule, _, line, _ in seen["findings"]
        )
        seen["others"] = [f for f in seen["findings"] if f[0] not in rules and f[1] != "hint"]
    else:
        about = rules if told.get("severity") == "hint" else set()
        seen["alarms"] = [f for f in seen["findings"] if f[1] != "hint" or f[0] in about]
    return seen


def main() -> None:
    """Run all, print the score and each miss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    import torch

    import loopwright.checker.session  # noqa: F401  before the forks

    torch.set_num_threads(1)
    given.folder = given.folder.resolve()  # each program runs in a folder of its own
    cases = sorted(file.parent for file in given.folder.rglob("case.toml"))
    alone_ = sorted((given.folder / "clean" if cases else given.folder).glob("*.py"))
    alone_ = [one for one in alone_ if not given.words or any(w in one.name for w in given.words)]
    cases = [one for one in cases if not given.words or any(w in one.name for w in given.words)]
    programs = [
        (case, case / f"{name}.py")
        for case in cases
        for name in ("buggy", "fixed", "clean")
        if (case / f"{name}.py").exists()
    ]
    programs += [(file.parent, file) for file in alone_]
    with ThreadPoolExecutor(given.jobs) as pool:
        done = list(pool.map(lambda pair: run(*pair), programs))
    if given.out is not None:
        given.out.write_text(json.dumps(done, indent=1))
    faulty = [one for one in done if one["faulty"]]
    healthy = [one for one in done if not one["faulty"]]
    for one in done:
        if one["faulty"] and not one["found"]:
            print(f"missed {one['name']}: {one['findings']} {one['notes']}")
        for alarm in one.get("alarms", ()):
            print(f"false alarm {one['name']}: {alarm}")
        for other in one.get("others", ()):
            print(f"also {one['name']}: {other}")
        if one["notes"]:
            print(f"note {one['name']}: {one['notes']}")
        if not one["steps"]:
            print(f"no step {one['name']}")
    alarms = sum(bool(one["alarms"]) for one in healthy)
    print(
        f"{sum(one['found'] for one in faulty)} of {len(faulty)} found, {alarms} of {len(healthy)} "
        f"healthy with a false alarm, {sum(len(one.get('others', ())) for one in faulty)} further findings"
    )


if __name__ == "__main__":
    main()
