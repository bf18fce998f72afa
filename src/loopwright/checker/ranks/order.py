"""Collectives that are not the same on all ranks of a group, or not in the same order.

Proven by the ranks' journals alone: at one place in the order two ranks called what cannot belong together;
or a rank ended by itself with fewer calls than another; or with fewer, and PyTorch had made a collective of
its own where the other rank's call was. A line proves nothing: one collective may be called in two branches.
(What two ranks call in turn, each in its own order, is `swaps`' to see.)
What cannot be proven is told as a note, where a rank waited in a collective when something ended it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

from loopwright.checker.ranks.journal import BEGUN, RAISED, Book, Call, Kept
from loopwright.checker.ranks.swaps import SUMS, swapped
from loopwright.checker.ranks.worlds import worlds
from loopwright.events import Finding, Place

NAME = "collective-mismatch"
WHY = (
    "collectives are paired by their order alone: values meant for different sums are mixed up in silence,\n"
    "or the ranks wait for each other for ever"
)
UNSURE = {"threads", "after an exception"}
"""Marks of a book whose end, or whose order, is not what it seems."""


def compared(journals: list[Kept]) -> tuple[list[Finding], list[str]]:
    """Findings and notes about all ranks that met."""
    found: list[Finding] = []
    notes: list[str] = []
    for world in worlds(
        journals,
        lambda one: one.told["met"],
        lambda one: (one.told["began"], one.last),
    ):
        told = [one for group in _groups(world) if (one := _differing(group)) is not None]
        found += told
        if not told and (note := _standing(world)) is not None:
            notes.append(note)
    return found, notes


@dataclass
class Member:
    """One rank's part in a group."""

    rank: int
    process: Kept
    book: Book

    def complete(self) -> bool:
        """Nothing came after what its book has."""
        over = self.process.ended is True or "destroyed" in self.book.marks
        return over and not self.book.marks & UNSURE

    def made(self) -> int:
        """How many collectives PyTorch is known to have counted on this rank."""
        ours = max((one.number + 1 for one in self.book.calls.values()), default=0)
        everybody = len(self.book.told.get("ranks", ())) == self.process.worlds[-1]["size"]
        return max(ours, self.process.latest if everybody else 0)


def _groups(world: list[Kept]) -> list[list[Member]]:
    """The members of each group, by rank; groups with a rank that is there twice are left out."""
    keys: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in world:
        for book in one.books:
            keys.setdefault(_key(book.told), book.told)
    found = []
    for key, told in keys.items():
        members = [
            Member(
                joined["rank"],
                one,
                next((it for it in one.books if _key(it.told) == key), Book(told)),
            )
            for one in world
            for joined in one.worlds
            if joined["world"] == told["in"] and joined["rank"] in told["ranks"]
        ]
        if len({one.rank for one in members}) == len(members) > 1:
            found.append(sorted(members, key=lambda one: one.rank))
    return found


def _key(told: dict[str, Any]) -> tuple[Any, ...]:
    return told["in"], told["group"], told["device"], tuple(told["ranks"])


def _differing(group: list[Member]) -> Finding | None:
    """The first place where the order of a group is not one order."""
    if any("threads" in one.book.marks for one in group):
        return None
    longest = max(
        group, key=lambda one: one.book.length
    )  # a rank may be ended before its first call
    places = [at for one in group if (at := _apart(longest.book, one.book)) is not None]
    if places:
        return _two_calls(group, min(places))
    shorter = [one for one in group if one.book.length in longest.book.calls]
    found = [it for one in shorter if (it := _unanswered(group, longest, one)) is not None]
    return found[0] if found else _mixed(group, longest)


def _mixed(group: list[Member], longest: Member) -> Finding | None:
    """Sums that two ranks come to in another order, so that what does not belong together is added up."""
    for other in group:
        at = swapped(longest.book, other.book)
        if at is None:
            continue
        first, second = sorted((longest, other), key=lambda one: one.rank)
        call, answer = first.book.calls[at], second.book.calls[at]
        found = _finding(
            group, call,
            f"the ranks make the same {_kind(call)} in another order: collective number {at + 1:,}"
            f"{_of(group)} is {_text(call)} on rank {first.rank} and {_text(answer)} on rank "
            f"{second.rank}, which {_pairs(call)}",
        )  # fmt: skip
        if call.told.get("what") and answer.told.get("what"):
            found.fix = (
                "for name in sorted(names): ...  # a set's or a dict's differs from rank to rank"
            )
        if answer.told["place"] != call.told["place"]:
            related = dataclasses.replace(
                _place(answer), note=f"rank {second.rank} at the same time"
            )
            found.related = [related]
        return found
    return None


def _text(call: Call) -> str:
    """The calls that led to a sum, as they are written."""
    *outer, (_, _, inner) = call.told["way"]
    if call.told.get("what"):
        kind, name, _ = call.told["what"]
        return f"{inner} of {name}" if kind == "parameter" else f"{inner} with {name}"
    return inner if not outer else f"{inner} in {outer[-1][2]}"


def _kind(call: Call) -> str:
    return {True: "sums", False: "calls"}[call.told["op"] in SUMS]


def _pairs(call: Call) -> str:
    if call.told["op"] in SUMS:
        return "adds them to each other"
    if call.told["op"] == "broadcast":
        return "gives one the values of the other"
    return "puts them together"


def _unanswered(group: list[Member], longest: Member, shorter: Member) -> Finding | None:
    """The longest book has a call that the shorter one has not: was it to come, or was it not?"""
    alone = longest.book.calls[shorter.book.length]
    if shorter.complete():
        caught = alone.state == RAISED and longest.process.ended is True
        return None if caught else _one_too_many(group, longest, shorter, alone)
    unsure = {"messages", "uncounted", *UNSURE}
    if shorter.made() > alone.number and not any(one.book.marks & unsure for one in group):
        return _against_its_own(group, longest, shorter, alone)
    return None


def _apart(one: Book, other: Book) -> int | None:
    """The first index at which two ranks called what does not go together."""
    both = sorted(one.calls.keys() & other.calls.keys())
    return next((at for at in both if not _together(one.calls[at], other.calls[at])), None)


def _together(one: Call, other: Call) -> bool:
    return one.told["op"] == other.told["op"] and all(
        a == b or a is None or b is None
        for a, b in zip(one.told["key"], other.told["key"], strict=True)
    )


def _two_calls(group: list[Member], at: int) -> Finding:
    """Ranks called different things as their ``at``-th."""
    sides: list[list[Member]] = []
    for one in group:
        call = one.book.calls.get(at)
        if call is None:
            continue
        side = next((it for it in sides if _together(it[0].book.calls[at], call)), None)
        if side is None:
            sides.append([one])
        else:
            side.append(one)
    calls = [side[0].book.calls[at] for side in sides]
    strange = [index for index, side in enumerate(sides) if _only_there(calls[index], side, group)]
    chosen = (
        strange[0] if len(strange) == 1 else min(range(len(sides)), key=lambda i: len(sides[i]))
    )
    said = ", ".join(
        f"{_ranks(side)} {'called ' if number == 0 else ''}{call.told['says']}"
        for number, (side, call) in enumerate(zip(sides, calls, strict=True))
    )
    found = _finding(
        group,
        calls[chosen],
        f"the ranks differ in collective number {at + 1:,}{_of(group)}: {said}",
    )
    found.related = [
        dataclasses.replace(_place(call), note=f"{_ranks(side)} at the same time")
        for number, (side, call) in enumerate(zip(sides, calls, strict=True))
        if number != chosen and call.told["place"] != calls[chosen].told["place"]
    ]
    return found


def _only_there(call: Call, side: list[Member], group: list[Member]) -> bool:
    """Whether no rank of the other sides ever comes to this line."""
    return not any(
        one.told["place"] == call.told["place"]
        for member in group
        if member not in side
        for one in member.book.calls.values()
    )


def _one_too_many(group: list[Member], longest: Member, shorter: Member, alone: Call) -> Finding:
    found = _finding(
        group, _extra(longest, shorter, alone),
        f"rank {longest.rank} called {longest.book.length:,} collectives{_of(group)}, and rank "
        f"{shorter.rank}, which has ended, {shorter.book.length:,}: nobody answers the last of them",
    )  # fmt: skip
    found.evidence += _uneven(longest, shorter)
    return found


def _extra(longest: Member, shorter: Member, alone: Call) -> Call:
    """The call that the other rank does not make, where lines tell; else the one that nobody answered."""
    more = longest.book.length - shorter.book.length
    ours, others = _lines(longest), _lines(shorter)
    extra = [line for line in ours if ours[line] - others[line] == more]
    if len(extra) != 1 or longest.book.gap or shorter.book.gap:
        return alone
    return next(one for one in longest.book.calls.values() if _line(one) == extra[0])


def _uneven(longest: Member, shorter: Member) -> list[str]:
    if longest.book.gap or shorter.book.gap:
        return []
    ours, others = _lines(longest), _lines(shorter)
    uneven = sorted(line for line in {*ours, *others} if ours[line] != others[line])
    return [
        f"line {line[1]} was reached {_times(ours[line])} on rank {longest.rank}, "
        f"{_times(others[line])} on rank {shorter.rank}"
        for line in uneven[:4]
    ]


def _lines(member: Member) -> Counter[tuple[str, int]]:
    return Counter(_line(one) for one in member.book.calls.values())


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count:,} times")


def _against_its_own(group: list[Member], longest: Member, shorter: Member, alone: Call) -> Finding:
    found = _finding(
        group, _extra(longest, shorter, alone),
        f"rank {longest.rank} called {alone.told['says']} where the collective of rank "
        f"{shorter.rank} was one that PyTorch makes itself (DistributedDataParallel's averaging, say)",
    )  # fmt: skip
    found.evidence += _uneven(longest, shorter)
    return found


def _finding(group: list[Member], call: Call, message: str) -> Finding:
    found = Finding(NAME, "error", _place(call), message, why=WHY)
    found.fix = f"dist.{call.told['op']}(...)  # on every rank of the group, in the same order"
    found.ranks = [one.rank for one in group]
    found.evidence = [it for one in group if (it := _waiting(one.process, one.rank)) is not None]
    return found


def _standing(world: list[Kept]) -> str | None:
    """Where the ranks stood when something ended them, if one of them was in a collective."""
    ranks = [(one.worlds[-1]["rank"], one) for one in world if one.ended is not True]
    told = [it for rank, one in sorted(ranks, key=lambda it: it[0]) if (it := _waiting(one, rank))]
    in_collective = any(_pending(one) is not None for _, one in ranks)
    return "; ".join(told) if in_collective else None


def _waiting(process: Kept, rank: int) -> str | None:
    call = _pending(process)
    if call is not None and call.state == RAISED:
        return f"{call.told['says']} ({_where(call.told)}) raised on rank {rank}"
    told = call.told if call is not None else process.doing if process.ended is None else None
    if told is None:
        return None
    return f"rank {rank} was still in {told['says']} ({_where(told)}) when it was ended"


def _pending(process: Kept) -> Call | None:
    """The collective that never came back, or that ended the process."""
    if process.ended is True:
        return None
    calls = [one.calls[one.length - 1] for one in process.books if one.calls]
    return next((one for one in calls if one.state in (BEGUN, RAISED)), None)


def _where(told: dict[str, Any]) -> str:
    return f"{told['place']['file'].rpartition('/')[2]}:{told['place']['line']}"


def _place(call: Call) -> Place:
    return Place(**call.told["place"])


def _line(call: Call) -> tuple[str, int]:
    return call.told["place"]["file"], call.told["place"]["line"]


def _ranks(side: list[Member]) -> str:
    numbers = ", ".join(str(one.rank) for one in side)
    return f"rank{'s' if len(side) > 1 else ''} {numbers}"


def _of(group: list[Member]) -> str:
    """Of which group, where it is not that of all ranks."""
    ranks = next(one.book.told["ranks"] for one in group)
    everybody = len(ranks) == group[0].process.worlds[-1]["size"]
    return "" if everybody else f" in the group of ranks {', '.join(map(str, ranks))}"
