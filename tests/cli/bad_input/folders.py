"""Folders that cannot be used: files, other things, read-only, in use, full disks."""

from __future__ import annotations

import shutil
from pathlib import Path

from bad_input.row import Row, recipe

TRAIN = "train mine.py --out run"


def lock_up(folder: Path) -> None:
    """Make a folder that nobody may write to."""
    (folder / "locked").mkdir()
    (folder / "locked").chmod(0o555)


def no_report(folder: Path) -> None:
    """Take the page away."""
    (folder / "run" / "report.html").unlink()


def locked_run(folder: Path) -> None:
    """Take the right to write into the run away."""
    no_report(folder)
    for path in [folder / "run", *(folder / "run").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def unfinished(folder: Path) -> None:
    """Make the run one that was killed before its end."""
    for name in ("outcome.json", "final.safetensors"):
        (folder / "run" / name).unlink()
    shutil.rmtree(folder / "run" / "checkpoints" / "loop-0-end")
    (folder / "run" / "checkpoints" / "protected.json").unlink()


KINDS = {
    "folders that are files": [
        Row("train digits --out there", 2, "there is a file, not a folder", "another --out",
            {"there": "mine"}),
        Row("train digits --out there/below", 2, "there is a file, not a folder", "another --out",
            {"there": "mine"}),
        Row("evaluate there", 2, "there is not a folder (command line)", "runs/digits/1", {"there": "mine"}),
        Row("verify there", 2, "there is not a folder (command line)", "runs/digits/1", {"there": "mine"}),
        Row("new there/mine.py", 4, "cannot write there/mine.py", "", {"there": "mine"}),
        Row("export run --to there/model.safetensors", 2, "there is no folder there (command line)", "",
            {"there": "mine"}, run=True),
    ],
    "folders that hold something else": [
        Row("train digits --out full", 2, "full holds other files and no run", "a new or empty folder",
            {"full/mine": "x"}),
        Row("evaluate full", 3, "full is not a run folder: it has no run.json (command line)",
            "a folder that a run made", {"full/mine": "x"}),
        Row("report full", 3, "run.json cannot be read: not JSON at line 1",
            "bring run.json back from a copy", {"full/run.json": "{"}),
        Row("runs full", 2, "there is no run in full (command line)", "loopwright train digits",
            {"full/mine": "x"}),
        Row("verify full", 2, "full is not a run folder: it has neither run.json nor checkpoints",
            "runs/digits/1", {"full/mine": "x"}),
        Row("predict full data.csv", 3, "full is not a run folder: run.json is not one of ours",
            "a folder that a run made",
            {"full/run.json": "[]"}),
    ],
    "folders and files that are not there": [
        Row("evaluate none", 2, "none is not a folder (command line)", "a folder that a run made"),
        Row("runs none", 2, "no such folder: none (command line)"),
        Row("verify none", 2, "none is not there (command line)", "runs/digits/1"),
        Row("train digits --init none.safetensors", 3, "there is no such file (none.safetensors)"),
        Row("train digits --resume always --out gone", 3, "gone holds no run to resume",
            "--resume auto begins one"),
        Row("predict run none.csv", 2, "recipe mine does not say how to read new data", run=True),
    ],
    "files that are in the way": [
        Row("new there.py", 2, "there.py exists already (command line)", "", {"there.py": "mine"}),
        Row("new there.txt", 2, "a recipe is a Python file", "loopwright new there.py"),
        Row("new none/mine.py", 2, "there is no folder none (command line)"),
        Row("predict run mine.py --to none/out.csv", 2, "there is no folder none", run=True),
        Row("report run", 4, "cannot write report.html: a folder is in its place", harm=lambda folder: (
            (folder / "run/report.html").unlink(), (folder / "run/report.html").mkdir()), run=True),
        Row("runs . --html folder", 4, "cannot write folder: a folder is in its place", "", {"folder/x": ""},
            run=True),
    ],
    "folders that may not be written": [
        Row("train digits --out /proc/nothing", 4,
            "cannot make the folder: No such file or directory (/proc/nothing)",
            "once the path works"),
        Row("new /proc/mine.py", 2, "there is no folder /proc"),
        Row("train digits --out locked/run", 4, "locked cannot be written to (recipe digits)",
            "another --out", harm=lock_up, limits="no root"),
        Row("new locked/mine.py", 4, "cannot write locked/mine.py", harm=lock_up, limits="no root"),
        Row(f"{TRAIN} --epochs 3", 4, "run cannot be written to (mine.py:", "change its permissions",
            run=True, harm=locked_run, limits="no root"),
        Row("report run", 4, "cannot write report.html", run=True, harm=locked_run, limits="no root"),
    ],
    "folders in use": [
        Row(TRAIN, 3, "the run folder is in use by process ", "give this run another --out", run=True,
            holder=True),
        Row(f"{TRAIN} --epochs 5", 3, "the run folder is in use by process ", "stop it", run=True,
            holder=True),
        Row(f"{TRAIN} --resume never", 3, "the run folder is in use by process ", "wait until it ends",
            run=True, holder=True),
        Row(TRAIN, 3, "the run folder is in use by process ", "", run=True, holder=True,
            harm=unfinished),
    ],
    "disks that are full": [
        Row(TRAIN, 4, "cannot write run.json: no room on the disk (0.0 MB needed, ",
            "make room and run the same command again", recipe(),
            limits="files of 2 kB"),
        Row(f"{TRAIN} --epochs 9", 4, "no room on the disk (0.1 MB needed, ",
            "earlier checkpoints are untouched", run=True,
            limits="files of 4 kB", trained=True),
        Row("export run", 4, "cannot write mine.safetensors: no room on the disk", "make room", run=True,
            limits="files of 600 bytes"),
        Row("report run", 4, "cannot write report.html: no room on the disk", "make room", run=True,
            harm=no_report, limits="files of 600 bytes"),
    ],
}  # fmt: skip
