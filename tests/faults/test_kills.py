"""A seeded sample of ``python3 start.py kills``: programs with random settings, killed at random moments."""

from __future__ import annotations

import drawn
import kills
import pytest
from bench import differences
from chain import DIFFERENT, IDENTICAL, SAID, UNLOADABLE, Chain, Landed, generator_of, run_chain

SETTINGS = dict(drawn.REPRESENTATIVE)


QUICK = 40
"""One loop, shuffled by a generator of its own, two workers, a checkpoint at every turn."""
AFTER = 3
"""A kill after this turn finds a checkpoint that is not the first one."""


@pytest.mark.parametrize("number", [QUICK])
def test_sample(bench, number):
    """A drawn program that is killed up to three times ends with the bits of one that is not."""
    for attempt in range(5):  # on a busy machine a kill may land before anything was saved
        chain = run_chain(bench, 20, number, attempt=attempt)
        assert (chain.verdict, chain.why) == (IDENTICAL, "")
        if any(kill.turn > AFTER for kill in chain.kills):
            return
    pytest.fail(f"no kill landed after turn {AFTER}")


@pytest.mark.long
@pytest.mark.parametrize("number", [number for number in range(64) if number != QUICK])
def test_larger_sample(bench, number):
    """The same, for more of them."""
    chain = run_chain(bench, 20, number)
    assert (chain.verdict, chain.why) == (IDENTICAL, "")


def test_the_control(whole):
    """Another seed gives other bits, and the comparison says where: equal ones mean something."""
    one, other = whole(SETTINGS), whole({**SETTINGS, "seed": 2})
    found = differences(one.result, other.result)
    for part in ("one/model/one/0.weight", "one/optimizer/two", "one/averaged", "one/best/valid_loss",
                 "one/epochs", "one/curves/loss", "one/tracked", "one/kept/first", "next draws",
                 "one/torch", "one/random", "one/numpy"):  # fmt: skip
        assert any(path.startswith(part) for path in found), part
    assert differences(one.result, whole(SETTINGS).result) == []


@pytest.mark.long
def test_the_same_program_twice(bench, whole):
    """Without a kill a program gives the same bits twice: what differs after one comes from it."""
    for number in range(2):
        settings = drawn.draw(generator_of(20, number))
        again = bench.case(f"again-{number}", settings)
        assert again.run().result.rc == 0
        assert differences(whole(settings).result, again.result()) == []


def test_settings_are_drawn_from_the_full_product():
    """Every value of every setting comes up, with every value of every other that it can go with."""
    import itertools
    import random

    generator = random.Random(0)
    programs = [drawn.draw(generator) for _ in range(4000)]
    missing = []
    for (a, values), (b, others) in itertools.combinations(drawn.PRODUCT.items(), 2):
        for value, other in itertools.product(values, others):
            if not any(p[a] == value and p[b] == other for p in programs):
                missing.append(f"{a}={value} with {b}={other}")
    assert missing == [
        "loader=function with workers=2",
        "loader=function with persistent=True",
        "workers=0 with persistent=True",
        "optimizer=lbfgs with precision=fp16",
        "optimizer=lbfgs with accumulate=3",
    ]


def landed(chain, places, operations):
    """A tally in which one kill landed on each of these."""
    chain.kinds = set(operations)
    chain.kills = [Landed(place, [], 3) for place in places]
    chain.kills += [Landed("body", [kind], 3) for kind in operations]
    return kills.Tally([chain])


@pytest.fixture
def chain():
    """A chain whose program ended bit-identical."""
    return Chain(0, {**SETTINGS})


def test_verdict_all_well(chain):
    """Every place and every kind of operation was hit, nothing differs: nothing to say."""
    tally = landed(chain, kills.PLACES, ["write", "fsync"])
    assert tally.wrong() == []
    assert tally.places()["validation"] == 1
    assert tally.operations() == {"write": 1, "fsync": 1}
    assert "9 kills" in kills.report(tally, 1.0)


def test_verdict_explained(chain):
    """What differs and was said beforehand is counted, and is no failure."""
    chain.verdict = SAID
    assert landed(chain, kills.PLACES, ["write"]).wrong() == []


@pytest.mark.parametrize("verdict", [DIFFERENT, UNLOADABLE])
def test_verdict_wrong(chain, verdict):
    """What differs silently, or cannot be loaded, is a failure that names the program and the places."""
    chain.verdict, chain.why = verdict, "3 values differ: a, b, c"
    (text,) = landed(chain, kills.PLACES, ["write"]).wrong()
    assert f"program 0, {verdict}: one loop, shuffled with generator" in text
    assert "turn 4 validation; then turn 4 epoch boundary" in text
    assert "a, b, c" in text


def test_verdict_empty_bins(chain):
    """A place or a kind of operation that no kill landed on is a failure: nothing is known of it."""
    places = [place for place in kills.PLACES if place != "validation"]
    tally = landed(chain, places, ["write"])
    chain.kinds.add("rename")
    assert tally.wrong() == ["no kill landed on: validation, rename (a larger --count?)"]
