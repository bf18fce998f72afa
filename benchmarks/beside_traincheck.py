"""What TrainCheck says of every tenth pair of the corpus, and what check says of the same programs.

``python benchmarks/beside_traincheck.py BIN [--out FILE.json] [--keep FOLDER] [WORD ...]``: BIN is the
``bin`` folder of an environment with ``traincheck`` (0.2.0), ``scikit-learn`` and torch; WORDs choose pairs
by folder. The workflow is that of its usage guide with its defaults: ``traincheck-collect`` on a healthy
program, ``traincheck-infer``, ``traincheck-collect --invariants`` on the program in question,
``traincheck-check``. It learns from the healthy twin of that very program: the most favourable case.

Programs are shortened to some dozens of steps, since an inference takes longer than in proportion to the
trace: what is changed stands in ``PAIRS``. A violated invariant counts as naming the mistake when it mentions
the call or the state at fault (a pattern, written down before the first run; rather too wide than too narrow)
and the healthy twin, run a second time, does not violate it too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

CORPUS = Path(__file__).resolve().parent.parent / "tests" / "corpus"
CPU_LIMIT_S = 600
"""CPU seconds that each command may take, whatever else the machine does."""
# number: (variables that hold models, text to replace and shorter text in turns, what names the mistake)
PAIRS = {
    "001": ("net", ["epochs=12", "epochs=2"], r"zero_grad"),
    "011": ("model", ["epochs: int = 10", "epochs: int = 2"], r"zero_grad|\.step\b"),
    "021": ("model", ["range(10)", "range(2)"], r"retain_graph|backward"),
    "031": ("model", ["range(5)", "range(1)", "split(32)", "split(96)"], r"GradScaler|grad_scaler"),
    "041": ("net", ["range(6)", "range(2)"], r"numpy|detach|fft|filters"),
    "051": ("model", ["range(1, 241)", "range(1, 31)"], r"Parameter\b.*(grad|data)|keys|values"),
    "061": ("model", ["default=32", "default=176"], r"param_groups|\blr\b"),
    "071": ("model", ["epochs=3, ", "epochs=1, "], r"\.train\b|\.eval\b|training|[Dd]ropout"),
    "081": ("G D", ["range(121)", "range(25)"], r"sigmoid"),
    "091": ("model", ["range(121)", "range(25)"], r"cross_entropy|stack|CrossEntropy"),
    "101": ("model", ["range(5)", "range(1)"], r"backward|\bitem\b|grad_fn"),
    "111": ("model", ["batch_size=64", "batch_size=650"], r"lr_scheduler|ReduceLROnPlateau|\blr\b"),
    "121": ("net", ["range(3)", "range(2)"], r"get_worker_info|DataLoader|IterableDataset"),
    "131": ("net", ["range(3)", "range(1)"], r"DistributedDataParallel|all_reduce|distributed"),
    "141": ("", ["epochs=5", "epochs=2"], r"no_grad|grad_mode|grad_enabled"),
}  # fmt: skip


def timed(words: list[str], folder: Path) -> tuple[int, str, float]:
    """The exit code, what was printed, and the CPU seconds of a command and its children."""

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, timeout=3 * CPU_LIMIT_S, preexec_fn=bound, check=False,
        )  # fmt: skip
        code, text = done.returncode, done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired:
        code, text = -1, f"no end after {3 * CPU_LIMIT_S} s"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return code, text, cpu


def traincheck(binaries: Path, models: str, folder: Path) -> dict:
    """Learn from fixed.py, then ask about buggy.py and about fixed.py run once more."""
    tracked = ["--models-to-track", *models.split()] if models else []
    seconds, told = [], {}

    def step(what: str, *words: str, may_end_badly: bool = False) -> bool:
        code, text, cpu = timed([str(binaries / words[0]), *words[1:]], folder)
        seconds.append((what, round(cpu, 1)))
        (folder / f"{what}.out").write_text(text)
        if code and not may_end_badly:
            told["failed"] = f"{what}: exit code {code}: {text.strip()[-300:]}"
        return may_end_badly or not code

    collect = ["traincheck-collect", *tracked, "--pyscript"]
    ready = step("reference", *collect, "fixed.py", "--output-dir", "reference") and step(
        "infer", "traincheck-infer", "-f", "reference", "-o", "invariants.json"
    )
    for name in ("buggy", "fixed") if ready else ():
        learnt = ["--invariants", "invariants.json", "--output-dir", name]
        words = (*collect, f"{name}.py", *learnt)
        # a faulty program may end with torch's own error: what it did until then is checked
        if not step(f"collect-{name}", *words, may_end_badly=name == "buggy"):
            break
        result = ["-i", "invariants.json", "--output-dir", f"said-{name}"]
        if not step(f"check-{name}", "traincheck-check", "-f", name, *result):
            break
        (summary,) = (folder / f"said-{name}").rglob("violations_summary.json")
        violated = json.loads(summary.read_text())["violations"]
        told[name] = [f"{one['relation_type']}: {one['display_name']}" for one in violated]
    learnt = folder / "invariants.json"
    told["invariants"] = len(learnt.read_text().splitlines()) if learnt.exists() else 0
    return told | {"seconds": seconds}


def loopwright(folder: Path) -> dict:
    """The findings of check on both programs, but for hints on the healthy one."""
    told, seconds = {}, 0.0
    for name in ("buggy", "fixed"):
        words = ["-m", "loopwright", "check", f"--json={name}.json", f"{name}.py"]
        _, text, cpu = timed([sys.executable, *words], folder)
        seconds += cpu
        if not (folder / f"{name}.json").exists():
            raise SystemExit(text)
        found = json.loads((folder / f"{name}.json").read_text())["findings"]
        told[name] = [(one["rule"], one["severity"], one["line"]) for one in found]
    return told | {"seconds": round(seconds, 1)}


def one_pair(case: Path, binaries: Path, folder: Path) -> dict:
    """Both tools on a pair."""
    models, shorter, about = PAIRS[case.name[:3]]
    for name in ("buggy", "fixed"):
        text = (case / f"{name}.py").read_text()
        for old, new in zip(shorter[::2], shorter[1::2], strict=True):
            assert old in text, f"{case.name}: {old!r} is no longer in {name}.py"
            text = text.replace(old, new)
        (folder / f"{name}.py").write_text(text)
    truth = tomllib.loads((case / "case.toml").read_text())
    ours = loopwright(folder)
    lines = {truth["line"], *truth["lines"]}
    rules = {truth["rule"], *truth["also"]}
    theirs = traincheck(binaries, models, folder)
    new = sorted(set(theirs.get("buggy", ())) - set(theirs.get("fixed", ())))
    return {
        "pair": case.name,
        "check": ours,
        "found": any(rule in rules and line in lines for rule, _, line in ours["buggy"]),
        "alarms": [one for one in ours["fixed"] if one[1] != "hint"],
        "traincheck": theirs,
        "new": new,
        "naming": [one for one in new if re.search(about, one)],
    }


def row(told: dict) -> str:
    """A line of the table."""
    theirs = told["traincheck"]
    ours = f"{'found' if told['found'] else 'missed'} | {len(told['alarms'])} | {told['check']['seconds']}"
    if "failed" in theirs:
        return f"| {told['pair']} | {ours} | {theirs['failed'][:150]!r} | | | |"
    cpu = sum(seconds for _, seconds in theirs["seconds"])
    of = theirs["invariants"]
    return (
        f"| {told['pair']} | {ours} | {len(theirs['buggy'])} of {of}, naming it {len(told['naming'])} of "
        f"{len(told['new'])} new | {len(theirs['fixed'])} | {cpu:.0f} |"
    )


def main() -> None:
    """Each pair in a folder of its own; a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binaries", type=Path)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_intermixed_args()
    if not (given.binaries / "traincheck-collect").exists():
        print(f"skipped: no traincheck-collect in {given.binaries}: python -m venv FOLDER; "
              "FOLDER/bin/pip install traincheck==0.2.0 scikit-learn torch==2.5.0")  # fmt: skip
        return
    binaries, done = given.binaries.resolve(), []
    for case in sorted(CORPUS.iterdir()):
        if case.name[:3] not in PAIRS or (
            given.words and not any(w in case.name for w in given.words)
        ):
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            if given.keep:
                folder = given.keep.resolve() / case.name
                folder.mkdir(parents=True, exist_ok=True)
            told = one_pair(case, binaries, folder)
        print(row(told), *told["naming"][:3], sep="\n    ", flush=True)
        done.append(told)
        if given.out:
            given.out.write_text(json.dumps(done, indent=1))


if __name__ == "__main__":
    main()
