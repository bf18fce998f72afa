"""The order of collectives, compared by journals that are written here: what is proven, and what is not."""

from __future__ import annotations

import json

import pytest

from loopwright.checker.ranks import journal, order

MEETING = {"met": {"MASTER_PORT": "29500"}, "began": 100.0}


class Rank:
    """Writes what one rank calls, as its process would."""

    def __init__(self, folder, rank, size=2, told=MEETING):
        folder = folder / str(rank)
        folder.mkdir(parents=True)
        self.rank, self.size, self.index, self.counted = rank, size, 0, 0
        self.lines = {}
        self.journal = journal.Journal(folder, told)
        self.journal.line({"world": 1, "rank": rank, "size": size})
        self.group = self.journal.line(
            {"group": "0", "device": "", "ranks": [*range(size)], "in": 1}
        )

    def call(
        self, op="all_reduce", line=10, *, root=0, kind="float32", values=1, came_back=True,
        text=None, does="SUM", brings=journal.SOMETHING, what=None, looks=0,
    ):  # fmt: skip
        """One collective that this rank calls itself."""
        place = {"file": "train.py", "line": line}
        told = {"op": op, "key": [root, does, kind, values], "says": f"{op}()", "place": place}
        if text is not None:
            told["way"] = [["train.py", "train", text]]
        if what is not None:
            told["what"] = what
        key = json.dumps(told)
        number = self.lines[key] = self.lines.get(key) or self.journal.line(told)
        slot = self.journal.begin(self.group, self.index, self.counted, number, brings, looks)
        self.index += 1
        self.counted += 1
        if came_back is not None:
            self.journal.end(slot, raised=not came_back)
        return self

    def its_own(self, count=1):
        """Collectives that PyTorch makes."""
        self.counted += count
        self.journal.doing(0, self.counted)
        return self

    def mark(self, mark):
        """Something that makes less sure."""
        self.journal.line({"mark": mark, "of": self.group})
        return self

    def end(self, *, well=True):
        """The process ends by itself."""
        self.journal.close(well=well)
        return self


@pytest.fixture
def ranks(tmp_path):
    """``ranks(size)``: that many, and what is said about them when they are done."""

    def make(size=2):
        return [Rank(tmp_path, rank, size) for rank in range(size)]

    return make


@pytest.fixture
def told(tmp_path):
    """``told()``: findings and notes."""

    def compare():
        found = [one for folder in sorted(tmp_path.iterdir()) for one in journal.read(folder)]
        return order.compared(found)

    return compare


def test_the_same_on_all(ranks, told):
    """Equal orders are no finding, whichever lines they come from."""
    for one in ranks(3):
        one.call(line=10 + one.rank).call("barrier", 20).end()
    assert told() == ([], [])


@pytest.mark.parametrize(
    "other",
    [{"op": "barrier"}, {"root": 1}, {"kind": "float64"}, {"values": 2}],
    ids=lambda one: next(iter(one)),
)
def test_two_calls_that_do_not_belong_together(ranks, told, other):
    """Another operation, root, type or number: at that place, with the line that only one rank comes to."""
    first, second, third = ranks(3)
    for one in (first, second, third):
        one.call(line=10, values=7, kind="float64")
        one.call(line=20) if one is not second else one.call(**{"line": 21, **other})
        one.end()
    ((found,), _) = told()
    assert (found.rule, found.place.line, found.ranks) == ("collective-mismatch", 21, [0, 1, 2])
    assert "collective number 2: ranks 0, 2 called all_reduce(), rank 1" in found.message
    assert [one.line for one in found.related] == [20]


def test_a_rank_that_never_came_to_it(ranks, told):
    """Two ranks differ, and the first one was ended before its first call."""
    _, second, third = ranks(3)
    second.call(line=20, values=3)
    third.call(line=20, values=4)
    ((found,), _) = told()
    assert "collective number 1: rank 1 called all_reduce(), rank 2" in found.message
    assert found.ranks == [0, 1, 2]


def test_an_unknown_size_fits_all(ranks, told):
    """Kinds of calls beyond those that are told apart are compared without their sizes."""
    first, second = ranks()
    first.call(values=3).end()
    second.call(values=None, kind=None).end()
    assert told() == ([], [])


def test_one_too_many_is_found_at_its_line(ranks, told):
    """A rank that ended has one call less: it is the line that only the other one came to."""
    first, second = ranks()
    first.call(line=10).call(line=15).call(line=10).call(line=10, came_back=False).end(well=False)
    second.call(line=10).call(line=10).call(line=10).end()
    ((found,), _) = told()
    assert (found.place.line, found.ranks) == (15, [0, 1])
    assert "line 15 was reached once on rank 0, never on rank 1" in found.evidence


def test_a_failed_call_that_was_answered_for_is_none(ranks, told):
    """Who catches the exception of a collective without a partner has thought of it."""
    first, second = ranks()
    first.call().call("barrier", came_back=False).end()
    second.call().end()
    assert told() == ([], [])


def test_a_rank_that_failed_is_not_out_of_order(ranks, told):
    """The others wait for one that has an exception of its own: told as a note, where they waited."""
    first, second = ranks()
    first.call().call(line=12, came_back=None)
    second.call().end(well=False)
    found, notes = told()
    assert found == []
    assert notes == ["rank 0 was still in all_reduce() (train.py:12) when it was ended"]


def test_against_one_that_pytorch_made(ranks, told):
    """A call whose number is one of PyTorch's own on the other rank is out of order."""
    first, second = ranks()
    first.its_own(3).call("barrier", 30, came_back=None)
    second.its_own(4)
    ((found,), _) = told()
    assert found.place.line == 30
    assert "rank 0 called barrier() where the collective of rank 1" in found.message


@pytest.mark.parametrize("mark", ["messages", "uncounted", "threads", "after an exception"])
def test_numbers_that_prove_nothing(ranks, told, mark):
    """Where PyTorch's numbers count messages too, or nothing, or threads take turns, it is not known."""
    first, second = ranks()
    first.its_own(3).call("barrier", 30, came_back=None)
    second.its_own(4).mark(mark)
    assert told()[0] == []


def test_a_rank_that_is_there_twice(ranks, told, tmp_path):
    """Two trainings at one time with nothing to tell them apart by: nothing is claimed."""
    for one in ranks():
        one.call(values=3).end()
    Rank(tmp_path / "again", 0).call(values=4).end()
    found = [journal.read(tmp_path / one)[0] for one in ("0", "1", "again/0")]
    assert order.compared(found) == ([], [])
    assert order.compared(found[:2]) == ([], [])
    assert order.compared(found[1:])[0] != []


def test_many_calls(ranks, told, tmp_path):
    """Of many calls the first and the last are kept; a mistake among the last is found at its number."""
    many = journal.FIRST + 3 * journal.LAST
    for one in ranks():
        for _ in range(many):
            one.call()
        one.call("barrier" if one.rank else "all_reduce", came_back=None)
    (book,) = journal.read(tmp_path / "0")[0].books
    assert (book.length, len(book.calls)) == (many + 1, journal.FIRST + journal.LAST)
    ((found,), _) = told()
    assert f"{many + 1:,}" in found.message


def texts(rank, *told, **rest):
    """Calls with these texts, each from a line of its own."""
    for text in told:
        rank.call(text=text, line=sum(map(ord, text)), **rest)
    return rank


@pytest.mark.parametrize(
    ("first", "second", "number"),
    [("ab", "ba", 1), ("xab", "xba", 2), ("abab", "baba", 1), ("xabcx", "xcabx", 2), ("aabb", "abab", 2)],
)  # fmt: skip
def test_the_same_sums_in_another_order(ranks, told, first, second, number):
    """Two ranks make the same calls in another order and come together again, all with something to add."""
    one, other = ranks()
    texts(one, *first).end()
    texts(other, *second).end()
    ((found,), _) = told()
    assert f"collective number {number} is {first[number - 1]} on rank 0" in found.message
    assert f"and {second[number - 1]} on rank 1, which adds" in found.message
    assert [place.note for place in found.related] == ["rank 1 at the same time"]


@pytest.mark.parametrize(
    ("first", "second", "rest"),
    [
        ("ab", "ba", {"brings": journal.ZERO}),
        ("ab", "ba", {"brings": 0}),
        ("ab", "ba", {"does": "MAX"}),
        ("ab", "cd", {}),
        ("ab", "ac", {}),
        ("abc", "bad", {"brings": 0}),
        ("aab", "bba", {}),
        ("", "", {}),
    ],
)
def test_lines_of_their_own(ranks, told, first, second, rest):
    """Who adds zeros only takes; a maximum is no sum; other lines on each rank are their own affair."""
    one, other = ranks()
    texts(one, *first, **rest).end()
    texts(other, *second).end() if "brings" in rest else texts(other, *second, **rest).end()
    assert told() == ([], [])


def test_a_text_that_is_not_known(ranks, told):
    """What was typed or generated has no lines to read, and nothing to compare by."""
    one, other = ranks()
    texts(one, "a").call(line=3).end()
    texts(other.call(line=3), "a").end()
    assert told() == ([], [])


def keys(rank, names, unordered=True, **rest):
    """One line in a loop, for each of these names."""
    for name in names:
        rank.call(text="sum(x[name])", what=["key", name, unordered], **rest)
    return rank


@pytest.mark.parametrize("op", ["all_reduce", "broadcast", "all_gather", "reduce_scatter_tensor"])
@pytest.mark.parametrize(("first", "second"), [("ab", "ba"), ("abc", "cab")])
def test_one_line_by_the_names_of_a_set(ranks, told, op, first, second):
    """What a set or a dict has chosen, in another order on another rank, whatever the collective."""
    for one, names in zip(ranks(), (first, second), strict=True):
        keys(one, names, op=op).end()
    ((found,), _) = told()
    assert (
        f"{'sums' if op in ('all_reduce', 'reduce_scatter_tensor') else 'calls'} in another"
        in found.message
    )
    assert f"with a on rank 0 and sum(x[name]) with {second[0]} on rank 1" in found.message
    assert "sorted(" in found.fix


def test_names_of_many(ranks, told):
    """Their number does not matter, and a barrier between them does not either."""
    for one in ranks():
        many = [f"{at}" for at in range(200)]
        keys(one, many[:: 1 - 2 * one.rank]).call("barrier", text="barrier()", does=None).end()
    assert len(told()[0]) == 1


@pytest.mark.parametrize(
    ("first", "second", "rest"),
    [
        ("ab", "ba", {"unordered": False}),
        ("ab", "ba", {"brings": journal.ZERO}),
        ("ab", "ba", {"op": "all_to_all"}),
        ("ab", "cd", {}),
        ("ab", "bb", {}),
    ],
)
def test_names_that_prove_nothing(ranks, told, first, second, rest):
    """An order that the program has chosen; who adds nothing; other names on each rank."""
    for one, names in zip(ranks(), (first, second), strict=True):
        keys(one, names, **rest).end()
    assert told() == ([], [])


@pytest.mark.parametrize(
    ("looks", "found"),
    [
        ([{"a": 1, "b": 2}, {"a": 1, "b": 2}], True),
        ([{"a": 1, "b": 1}, {"a": 1, "b": 1}], False),
        ([{"a": 1, "b": 2}, {"a": 2, "b": 1}], False),
        ([{"a": 1, "b": 2}, {"a": 3, "b": 4}], False),
        ([{"a": 0, "b": 2}, {"a": 0, "b": 2}], False),
    ],
)
def test_replicas(ranks, told, looks, found):
    """Parameters of the same values on both ranks are one and the same; others may be what they like."""
    for one, names in zip(ranks(), ("ab", "ba"), strict=True):
        for name in names:
            what = ["parameter", f"Net.{name}", False]
            one.call(text="sum(p.grad)", what=what, looks=looks[one.rank][name])
        one.end()
    assert [one.rule for one in told()[0]] == ["collective-mismatch"] * found


def test_what_lies_between(ranks, told):
    """A barrier between two sums in another order changes nothing."""
    for one, both in zip(ranks(), ("ab", "ba"), strict=True):
        texts(one, both[0]).call("barrier", text="barrier()", does=None, brings=0)
        texts(one, both[1]).end()
    assert len(told()[0]) == 1
