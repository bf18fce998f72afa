"""Runs a drawn program under the shim, to its end or until it is killed, and compares results."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import shim
import torch

from forked import Program, Result, Server

PROGRAM = Path(__file__).parent / "programs" / "whole.py"
LIMIT_S = 180.0  # one takes a few seconds; with the machine full, many times that


class Bench:
    """A warmed process with the shim, and the folders of its programs.

    Args:
        folder: an existing empty folder for everything.
    """

    def __init__(self, folder: Path):
        library = shim.library()
        self.folder = folder
        self.shimmed = library is not None
        (folder / "server").mkdir()
        self.server = Server(folder / "server", {"LD_PRELOAD": str(library)} if library else None)

    def case(self, name: str, settings: dict[str, Any]) -> Case:
        """A folder in which a program of these settings can run, again and again."""
        folder = self._new(name)
        case = Case(self, folder, settings, [str(PROGRAM), str(folder / "settings.json")])
        case.work.mkdir(parents=True)
        (case.folder / "settings.json").write_text(json.dumps(settings))
        return case

    def command(self, name: str, *words: str) -> Case:
        """A folder in which ``loopwright`` can be called with these words, again and again."""
        case = Case(self, self._new(name), {}, ["-m", "loopwright", *words])
        case.work.mkdir(parents=True)
        return case

    def _new(self, name: str) -> Path:
        """A name that is not taken: pytest may set up a module's fixtures twice in one process."""
        folder = self.folder / name
        while folder.exists():
            folder = folder.with_name(f"{folder.name}-again")
        return folder

    def close(self) -> None:
        """End the warmed process."""
        self.server.close()


@dataclass(slots=True)
class Ending:
    """How one process of a program ended, and what it had said by then."""

    result: Result
    control: shim.Control
    pid: int

    @property
    def killed(self) -> bool:
        """Whether it was, by a watcher or by the shim."""
        return self.result.rc == -signal.SIGKILL

    @property
    def place(self) -> str:
        """Where it was."""
        return self.control.place


@dataclass(slots=True)
class Case:
    """One program in one folder: the same command each time."""

    bench: Bench
    folder: Path
    settings: dict[str, Any]
    argv: list[str]
    said: list[str] = field(default_factory=list)
    processes: int = 0

    @property
    def work(self) -> Path:
        """The program's working folder, the one that the shim watches."""
        return self.folder / "work"

    def run(
        self,
        when: Callable[[shim.Control, float], bool] | None = None,
        *,
        log: bool = False,
        env: dict[str, str] | None = None,
        **asked: int,
    ) -> Ending:
        """Run the command once.

        Args:
            when: asked again and again with the control file and the seconds since the start; True
                has the process killed from outside.
            log: write every operation with its data to ``log``.
            env: for the program.
            asked: of the shim: ``kill_before=``, ``tear=`` ...
        """
        program, control = self.start(log=log, env=env, **asked)
        if when is not None:
            _watch(program, control, when)
        ending = Ending(program.wait(LIMIT_S), control, program.pid)
        self.said.append(ending.result.err)
        return ending

    def start(
        self,
        *,
        control: str = "control",
        log: bool = False,
        env: dict[str, str] | None = None,
        **asked: int,
    ) -> tuple[Program, shim.Control]:
        """Start the command, as `run` does; ``control`` names the control file of one of several."""
        made = shim.Control.new(self.folder / control, log=int(log), **asked)
        (self.folder / "result.pt").unlink(missing_ok=True)
        (self.folder / "log").unlink(missing_ok=True)
        ours = {"FAULTS_BASE": str(self.folder), "FAULTS_CONTROL": control}
        if log:
            ours["FAULTS_LOG"] = "1"
        self.processes += 1
        return self.bench.server.start(self.argv, cwd=self.work, env={**ours, **(env or {})}), made

    def result(self) -> dict[str, Any]:
        """What the last process wrote down at its end."""
        return torch.load(self.folder / "result.pt", weights_only=True)

    def log(self) -> list[shim.Operation]:
        """The operations of the last process that was run with ``log=True``."""
        return list(shim.read_log(self.folder / "log"))


def _watch(
    program: Program, control: shim.Control, when: Callable[[shim.Control, float], bool]
) -> None:
    """Kill the program from outside as soon as ``when`` says so, unless it ends before."""
    begun = time.monotonic()
    looks = 0
    while not when(control, time.monotonic() - begun):
        looks += 1
        time.sleep(0.0002)
        if looks % 64 == 0 and not program.running():
            return
    if program.running():
        program.send_signal(signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Kill:
    """Where a process is to be killed.

    ``how`` is "time" (so many seconds after the first body, or after the start of a later process),
    "place" (from outside, when it is seen at that place after so many bodies), "mark" (exactly when it
    comes to that place after so many bodies), or "operation" (exactly before it).
    """

    how: str
    seconds: float = 0.0
    place: str = ""
    after: int = 0
    operation: int = -1

    def run(self, case: Case) -> Ending:
        """Run the case's command and kill it."""
        if self.how == "operation":
            return case.run(kill_before=self.operation)
        if self.how == "mark":
            return case.run(die_at=shim.PLACES.index(self.place), die_after=self.after)
        first: list[float] = []
        later = case.processes > 0

        def when(control: shim.Control, now: float) -> bool:
            if control.place == "outside" or (control.place == "start" and not later):
                return False
            if self.how == "place":
                return control.bodies >= self.after and control.place == self.place
            first[:] = first or [now]
            return now - first[0] >= self.seconds

        return case.run(when)


@dataclass(frozen=True, slots=True)
class Whole:
    """What an uninterrupted run was like: what kills are drawn from, and what results must equal.

    ``operations`` are the numbers of those after the first body, by kind.
    """

    result: dict[str, Any]
    bodies: int
    seconds: float
    operations: dict[str, list[int]]


def run_whole(case: Case) -> Whole:
    """Run a case's command to its end.

    Raises:
        RuntimeError: it does not run, with what it said.
    """
    ending = case.run(log=case.bench.shimmed)
    if ending.result.rc:
        raise RuntimeError(f"{case.settings}\n{ending.result.err}")
    control = ending.control
    operations: dict[str, list[int]] = {}
    for operation in case.log() if case.bench.shimmed else ():
        if operation.number >= control.count_at_first_body:
            operations.setdefault(operation.kind, []).append(operation.number)
    seconds = (control.done_ns - control.first_body_ns) / 1e9
    return Whole(case.result(), control.bodies, seconds, operations)


def draw_kill(generator: random.Random, whole: Whole, left: float = 1.0) -> Kill:
    """A random moment to kill at; each place, and each kind of operation, is equally likely.

    Args:
        left: share of the run that a later process still has before it.
    """
    how = generator.choice(["time", "time", "place", "operation", "operation"])
    if how == "operation" and whole.operations:
        kind = generator.choice(sorted(whole.operations))
        return Kill("operation", operation=int(left * generator.choice(whole.operations[kind])))
    if how == "place":
        places = ["fetch", "body", "validation", "epoch boundary", "loop end", "between loops"]
        if left < 1.0:
            places.append("start")
        place = generator.choice(places)
        after = 0 if place == "start" else generator.randrange(int(left * whole.bodies) + 1)
        return Kill("place", place=place, after=after)
    return Kill("time", seconds=left * whole.seconds * generator.random())


def problem(case: Case, ending: Ending, whole: Whole) -> str:
    """What is wrong with how a case ended; empty when it ended with the bits of the whole run."""
    if ending.result.rc:
        return f"exit {ending.result.rc}: {ending.result.err[-1500:]}"
    found = differences(whole.result, case.result())
    return f"{len(found)} values differ: {', '.join(found[:8])}" if found else ""


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The paths at which two results differ; bits count, nan equals nan."""
    paths = [path for path in {**one, **other} if path not in one or path not in other]
    return paths + [p for p in one if p in other and not _same(one[p], other[p])]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and (
            torch.equal(a, b) or (a.shape == b.shape and bool(torch.equal(_bits(a), _bits(b))))
        )
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and a == b


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def slug(error: str) -> str | None:
    """The slug of the error that a program's stderr ends with; None for any other exception."""
    for line in reversed(error.strip().splitlines()):
        if line.startswith(
            ("  ", "the weights at the end are in")
        ):  # hints, rows of a table, notes
            continue
        head, _, tail = line.rpartition("  [")
        return tail.rstrip("]") if head and tail.endswith("]") else None
    return None


def orphans(pid: int) -> list[int]:
    """The living processes of the session that a process began (its workers may outlive it)."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == pid and fields[0] != "Z":
                found.append(int(name))
    return found
