"""Do popular public training programs, unmodified, give a false alarm? Are they explained?

    python benchmarks/public_programs CHECKOUTS [--explain] [--fetch] [--python PYTHON] [--json FILE]
        [WORD ...]

CHECKOUTS is a folder with one folder for each repository (``owner+name``), at the commit that
``programs.toml`` names; ``--fetch`` clones what is missing with git. Each program is run in a copy of its
repository, as ``loopwright check --steps N``, with data that ``data.py`` makes in the program's own format,
and with a stand-in for torchvision where none is installed. The program's file must be the very one that the
table names (its git blob hash is compared). Printed are what was found, the exit code, and how many steps and
events were seen: finding nothing because little was seen is a failure, too. WORDs choose programs.

With ``--explain`` each is run as ``loopwright explain``: its training loop must be there with lines that are
forward, backward and step, the program must have ended well, and nothing may have failed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import data

HERE = Path(__file__).parent
LIMIT_S = 60
"""Then the program is interrupted, as a person would: what was seen until then is reported."""
LEAST_EVENTS = 5
"""Events a step at least; the tutorial loop has ten."""


def fetch(folder: Path, one: dict) -> None:
    """One commit of one repository, with git."""
    folder.mkdir(parents=True)
    url = f"https://github.com/{one['repository']}"
    fetched = ["fetch", "-q", "--depth=1", url, one["commit"]]
    for words in (["init", "-q"], fetched, ["checkout", "-q", "FETCH_HEAD"]):
        subprocess.run(["git", *words], cwd=folder, check=True)


def blob(file: Path) -> str:
    """What git calls this file's contents."""
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def environment(one: dict, copy: Path) -> dict[str, str]:
    """The stand-ins, and the repository's own folder where the program expects it to be installed."""
    paths = [str(copy / path) for path in one.get("pythonpath", [])]
    if importlib.util.find_spec("torchvision") is None:
        paths.append(str(HERE / "site-packages"))
    known = os.environ.get("PYTHONPATH")
    variables = {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    variables |= one.get("environment", {})
    return {
        **os.environ,
        **variables,
        "PYTHONPATH": os.pathsep.join([*paths, *filter(None, [known])]),
    }


def run(one: dict, checkout: Path, python: str, folder: Path, *, explain: bool) -> dict:
    """Run one program and return what was told of it."""
    copy = folder / "copy"
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git"))
    where = copy / one.get("cwd", str(Path(one["path"]).parent))
    if "data" in one:
        getattr(data, one["data"])(where)
    for name in one.get("mkdir", []):
        (where / name).mkdir(exist_ok=True)
    out, log = folder / "found.json", folder / "log.txt"
    program = os.path.relpath(copy / one["path"], where)
    verb = (
        ["explain", "--wait=2", "--html=none"] if explain else ["check", f"--steps={one['steps']}"]
    )
    words = [python, "-m", "loopwright", *verb, f"--json={out}", program]
    start = time.monotonic()
    with log.open("w") as stream:
        child = subprocess.Popen(
            [*words, *one.get("arguments", [])], cwd=where, env=environment(one, copy),
            stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        interrupted = False
        try:
            child.wait(one.get("limit", LIMIT_S))
        except subprocess.TimeoutExpired:
            interrupted = True
            os.killpg(child.pid, signal.SIGINT)
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    nothing = {"findings": [], "notes": [], "observed": {}}
    told = json.loads(out.read_text()) if out.exists() else nothing
    shown = log.read_text(errors="replace")[-1500:]
    return {
        "told": told,
        "interrupted": interrupted,
        "log": shown,
        "seconds": time.monotonic() - start,
    }


def judge(one: dict, seen: dict) -> tuple[list[str], dict]:
    """What is wrong, and a row for the table."""
    told = seen["told"]
    observed, ended = told.get("observed") or {}, told.get("program") or {}
    events = sum((observed.get("events") or {}).values())
    steps = observed.get("steps") or 0
    proven = {(true["rule"], true["line"]) for true in one.get("true", [])}
    alarms = [f for f in told["findings"] if f["severity"] != "hint"]
    wrong = [
        f"{f['severity']} {f['rule']} {Path(f['file']).name}:{f['line']}: {f['message']}"
        for f in alarms
        if (f["rule"], f["line"]) not in proven
    ]
    passes = (observed.get("events") or {}).get("backward", 0)
    enough = (passes if one.get("by_hand") else steps) >= one["steps"]
    if not enough or events < LEAST_EVENTS * one["steps"]:
        wrong.append(
            f"saw {steps} steps, {passes} backward passes, {events} events; {one['steps']} were asked for"
        )
    expected = (0, 1) if alarms else (0,)
    if not seen["interrupted"] and (
        ended.get("exception") or ended.get("exit_code") not in expected
    ):
        wrong.append(f"the program failed: {ended}")
    wrong += told["notes"]
    row = {
        "program": f"{one['repository']} {one['path']}", "kind": one["kind"],
        "steps": steps, "passes": passes, "events": events,
        "alarms": len(alarms), "true": len(proven),
        "hints": sorted({f["rule"] for f in told["findings"] if f["severity"] == "hint"}),
        "ended": "interrupted" if seen["interrupted"] else f"exit code {ended.get('exit_code')}",
        "seconds": round(seen["seconds"]),
    }  # fmt: skip
    return wrong, row


def judge_explained(one: dict, seen: dict) -> tuple[list[str], str]:
    """What is wrong with an explanation, and what stands in it."""
    told = seen["told"]
    loops = [
        at
        for at, loop in enumerate(told.get("loops", []))
        if loop["kind"] in ("training", "gradients")
    ]
    steps = [step for step in told.get("steps", []) if step["loop"] in loops]
    phases = {phase for step in steps for line in step["lines"] for phase in line["phases"]}
    wanted = {"forward", "backward"} | (set() if one.get("by_hand") else {"step"})
    wrong = [f"no line is {phase}" for phase in sorted(wanted - phases)]
    ended = told.get("program") or {}
    if seen["interrupted"] or ended.get("exception") or ended.get("exit_code") != 0:
        wrong.append(f"it did not end well: {ended or 'nothing was recorded'}")
    wrong += [note for note in told["notes"] if "failed" in note or "not complete" in note]
    asked = [step for step in steps if step["whatifs"]]
    why = next((step["not_replayed"] for step in steps if step["not_replayed"]), "")
    lines = len(
        {
            (line["file"], line["line"])
            for step in steps
            for line in step["lines"]
            if line["sentences"]
        }
    )
    whatifs = f"what-ifs of {len(asked)}" if asked else f"no what-ifs ({why})"
    return wrong, f"{len(loops)} loops, {len(steps)} steps, {lines} lines with sentences, {whatifs}"


def main() -> None:
    """Run all, print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkouts", type=Path)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--explain", action="store_true")
    parser.add_argument("--fetch", action="store_true")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--json", type=Path)
    given = parser.parse_intermixed_args()
    table = tomllib.loads((HERE / "programs.toml").read_text())["program"]
    bad, rows = 0, []
    for one in table:
        name = f"{one['repository']} {one['path']}"
        if given.words and not any(word in name for word in given.words):
            continue
        checkout = given.checkouts.resolve() / one["repository"].replace("/", "+")
        if given.fetch and not checkout.exists():
            fetch(checkout, one)
        if not (checkout / one["path"]).exists():
            print(f"MISSING  {name}")
            bad += 1
            continue
        if blob(checkout / one["path"]) != one["blob"]:
            print(f"MODIFIED {name}: its blob is {blob(checkout / one['path'])}")
            bad += 1
            continue
        with tempfile.TemporaryDirectory() as folder:
            seen = run(one, checkout, given.python, Path(folder), explain=given.explain)
        if given.explain:
            wrong, shown = judge_explained(one, seen)
            bad += bool(wrong)
            rows.append({"program": name, "wrong": wrong, "shown": shown})
            print(
                f"{'WRONG' if wrong else 'ok':8} {name}: {shown}, {seen['seconds']:.0f} s",
                flush=True,
            )
            for line in wrong:
                print(f"         {line}")
            continue
        wrong, row = judge(one, seen)
        rows.append({**row, "findings": seen["told"]["findings"]})
        bad += bool(wrong)
        seen_of_it = (
            f"{row['steps']} steps, {row['passes']} backward passes, {row['events']} events"
        )
        alarms = f"{row['alarms']} errors or warnings ({row['true']} known to be true)"
        hints = f"hints {row['hints']}, {row['ended']}, {row['seconds']} s"
        print(f"{'WRONG' if wrong else 'ok':8} {name}: {seen_of_it}, {alarms}, {hints}", flush=True)
        for line in wrong:
            print(f"         {line}")
        if wrong and not seen["told"]["findings"]:
            print("         | " + seen["log"].strip().replace("\n", "\n         | "))
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1))
    print(f"{len(rows)} programs, {bad} with something wrong")
    raise SystemExit(bad > 0)


if __name__ == "__main__":
    main()
