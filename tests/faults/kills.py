"""``python3 start.py kills --count 500 --seed 0``: kill whole training programs, and compare their bits.

Programs are drawn from the full product of settings (``drawn.py``). Each runs once to its end, then
again in another folder where it is killed with SIGKILL up to three times, at random moments from
outside or exactly before a random file operation, and started again with the same command each time.
What it ends with must be equal, bit for bit. A kill counts when it lands between the program's first
step and its last write.

Exit code 0: every kill ended bit-identical or was explained, and every place was hit.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import drawn
import torch
from bench import Bench
from chain import DIFFERENT, IDENTICAL, UNLOADABLE, VERDICTS, Chain, run_chain
from shim import KINDS

PLACES = {
    "start": "resuming",
    "fetch": "fetch",
    "body": "body",
    "validation": "validation",
    "epoch boundary": "epoch boundary",
    "loop end": "loop end",
    "between loops": "between loops",
}
"""What a control file says -> the histogram's words."""


@dataclass
class Tally:
    """What came of all chains; the tables are made of it."""

    chains: list[Chain] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Kills that count."""
        return sum(len(chain.kills) for chain in self.chains)

    def verdicts(self) -> Counter[str]:
        """Kills by the verdict on their program."""
        return Counter(c.verdict for c in self.chains for _ in c.kills)

    def places(self) -> dict[str, int]:
        """Kills by where the main thread was."""
        found = Counter(PLACES[kill.place] for c in self.chains for kill in c.kills)
        return {name: found[name] for name in PLACES.values()}

    def operations(self) -> dict[str, int]:
        """Kills by the file operation they fell on, for every kind that the programs use."""
        used = set().union(*(chain.kinds for chain in self.chains)) if self.chains else set()
        found = Counter(kind for c in self.chains for kill in c.kills for kind in kill.operations)
        return {kind: found[kind] for kind in KINDS if kind in used or found[kind]}

    def settings(self) -> dict[str, dict[str, int]]:
        """Setting -> value -> kills."""
        return {
            name: {
                str(value): sum(len(c.kills) for c in self.chains if c.settings[name] == value)
                for value in values
            }
            for name, values in drawn.PRODUCT.items()
        }

    def wrong(self) -> list[str]:
        """Why the exit code is not 0."""
        found = [f"the uninterrupted program failed: {text}" for text in self.broken]
        found += [
            f"program {chain.number}, {chain.verdict}: {drawn.say(chain.settings)}\n"
            f"    killed at {'; then '.join(map(_landed, chain.kills)) or 'its start'}\n"
            f"    {chain.why}"
            for chain in self.chains
            if chain.verdict in (DIFFERENT, UNLOADABLE)
        ]
        empty = [name for table in (self.places(), self.operations()) for name in table
                 if not table[name]]  # fmt: skip
        if empty:
            found.append(f"no kill landed on: {', '.join(empty)} (a larger --count?)")
        return found


def _landed(kill: object) -> str:
    operations = f" in {' and '.join(kill.operations)}" if kill.operations else ""
    return f"turn {kill.turn + 1} {kill.place}{operations}"


def _bars(table: dict[str, int]) -> str:
    most = max([*table.values(), 1])
    return "\n".join(
        f"    {name:<16}{n:>5}  {'█' * round(40 * n / most)}" for name, n in table.items()
    )


def report(tally: Tally, seconds: float) -> str:
    """The tables of the command."""
    lines = [f"settings (kills each), {len(tally.chains)} programs"]
    for name, values in tally.settings().items():
        lines.append(f"    {name:<12}" + " · ".join(f"{v} {n}" for v, n in values.items()))
    lines += ["where the main thread was", _bars(tally.places())]
    operations = tally.operations()
    lines.append("file operations that were begun and not completed")
    lines.append(_bars(operations) if operations else "    not known: no C compiler for the shim")
    verdicts = tally.verdicts()
    kills = f"{tally.kills} kills in {seconds:.0f} s: "
    lines.append(kills + ", ".join(f"{verdicts[name]} {name}" for name in VERDICTS))
    return "\n".join(lines)


class Lane(threading.Thread):
    """Runs chains one after the other until there are kills enough."""

    def __init__(
        self, folder: Path, numbers: itertools.count[int], tally: Tally, asked: argparse.Namespace
    ):
        super().__init__(daemon=True)
        self._folder, self._numbers, self._tally, self._asked = folder, numbers, tally, asked
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Take a number, run its chain, enter it."""
        self._folder.mkdir()
        bench = Bench(self._folder)
        try:
            while self._tally.kills < self._asked.count:
                number = next(self._numbers)
                try:
                    chain = run_chain(
                        bench, self._asked.seed, number, keep=self._asked.only is not None
                    )
                except RuntimeError as error:
                    self._tally.broken.append(str(error))
                    continue
                self._tally.chains.append(chain)
                if self._asked.only is not None:
                    return
        except BaseException as error:
            self.failure = error
        finally:
            bench.close()


def main(words: list[str]) -> int:
    """Run until so many kills have landed, with progress on stderr; returns the exit code."""
    parser = argparse.ArgumentParser(prog="start.py kills", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=500, help="kills that must land (500)")
    parser.add_argument("--seed", type=int, default=0, help="of programs and kills (0)")
    parser.add_argument("--jobs", type=int, default=2, help="programs at a time (2)")
    parser.add_argument("--only", type=int, help="this program alone; its folders are kept")
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    tally, begun = Tally(), time.monotonic()
    numbers = itertools.count(asked.only or 0)
    jobs = 1 if asked.only is not None else asked.jobs
    lanes = [Lane(folder / str(i), numbers, tally, asked) for i in range(jobs)]
    for lane in lanes:
        lane.start()
    while any(lane.is_alive() for lane in lanes):
        lanes[0].join(1.0)
        _progress(tally, asked.count, time.monotonic() - begun)
        lanes[-1].join(4.0)
    for lane in lanes:
        if lane.failure is not None:
            raise lane.failure
    print(report(tally, time.monotonic() - begun))
    wrong = (
        tally.wrong()
        if asked.only is None
        else [text for text in tally.wrong() if "landed on" not in text]
    )
    for text in wrong:
        print(f"error: {text}", file=sys.stderr)
    if wrong or asked.only is not None:
        print(f"the programs' folders are in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return 1 if wrong else 0


def _progress(tally: Tally, count: int, seconds: float) -> None:
    bad = sum(c.verdict != IDENTICAL for c in tally.chains) + len(tally.broken)
    ending = "\r" if sys.stderr.isatty() else "\n"
    print(
        f"{seconds:5.0f} s  {tally.kills}/{count} kills, {len(tally.chains)} programs, {bad} not identical",
        end=ending, file=sys.stderr, flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
