"""One program that is killed up to three times and run again each time, and what came of it."""

from __future__ import annotations

import random
import re
import shutil
from dataclasses import dataclass, field
from typing import Any

import drawn
from bench import (
    Bench,
    Case,
    Ending,
    Whole,
    differences,
    draw_kill,
    run_whole,
    slug,
)

IDENTICAL, SAID, DIFFERENT, UNLOADABLE = (
    "bit-identical", "said why not", "silently different", "unloadable"
)  # fmt: skip
VERDICTS = (IDENTICAL, SAID, DIFFERENT, UNLOADABLE)
_WHY_NOT = re.compile(r"\[(resumed-elsewhere|other-order)\]")
"""Slugs of the warnings that announce other bits."""


@dataclass(slots=True)
class Landed:
    """One kill that counts: where the main thread was, and which operations were being executed."""

    place: str
    operations: list[str]
    turn: int


@dataclass(slots=True)
class Chain:
    """A program, its kills, and the verdict on what it ended with."""

    number: int
    settings: dict[str, Any]
    kills: list[Landed] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    verdict: str = IDENTICAL
    why: str = ""


def generator_of(seed: int, number: int) -> random.Random:
    """Where program ``number`` of ``seed``, and then its kills, are drawn from."""
    return random.Random(f"{seed}-{number}")


def run_chain(
    bench: Bench, seed: int, number: int, *, attempt: int = 0, keep: bool = False
) -> Chain:
    """Draw program ``number`` of ``seed``, run it whole, then kill it and run it again.

    Args:
        bench: where.
        seed: of everything that is drawn.
        number: which program; drawn alike however many there are.
        attempt: each has other kills of the same program.
        keep: leave the folders also where all was well.

    Raises:
        RuntimeError: the uninterrupted program does not run.
    """
    generator = generator_of(seed, number)
    chain = Chain(number, drawn.draw(generator))
    if attempt:
        generator = random.Random(f"{seed}-{number}-{attempt}")
    first, case = (bench.case(f"{number}-{name}", chain.settings) for name in ("whole", "killed"))
    whole = run_whole(first)
    chain.kinds = set(whole.operations)
    ending = _kill(case, chain, whole, generator)
    _judge(chain, case, ending, whole.result)
    if not keep and chain.verdict == IDENTICAL:
        for one in (first, case):
            shutil.rmtree(one.folder)
    return chain


def _kill(case: Case, chain: Chain, whole: Whole, generator: random.Random) -> Ending:
    """Run the command, killed up to three times; returns how the last process ended, unkilled."""
    bodies = 0
    for _ in range(generator.randint(1, 3)):
        left = max(0.1, 1 - bodies / whole.bodies)
        ending = draw_kill(generator, whole, left).run(case)
        if not ending.killed:
            return ending
        control = ending.control
        bodies += control.bodies
        if ending.place == "done" or not bodies:
            continue  # after the last write, or before the first step: it does not count
        chain.kills.append(Landed(ending.place, control.active, control.turn))
    return case.run()


def _judge(chain: Chain, case: Case, ending: Ending, whole: dict[str, Any]) -> None:
    error = ending.result.err
    if ending.result.rc:
        chain.verdict = UNLOADABLE
        chain.why = f"exit {ending.result.rc} [{slug(error)}]\n{error[-2000:]}"
        return
    found = differences(whole, case.result())
    if found:
        said = any(_WHY_NOT.search(text) for text in case.said)
        chain.verdict = SAID if said else DIFFERENT
        chain.why = f"{len(found)} values differ: {', '.join(found[:8])}"
