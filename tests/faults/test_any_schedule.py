"""Any schedule of kills, any loader, any settings: hypothesis looks for one that ends with other bits."""

from __future__ import annotations

import shutil

import drawn
import pytest
from bench import Kill, differences, run_whole
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from shim import PLACES

programs = st.fixed_dictionaries(
    {name: st.sampled_from(values) for name, values in drawn.PRODUCT.items()}
    | {"seed": st.integers(0, 99)}
).filter(lambda made: drawn.impossible(made) is None)

kills = st.one_of(
    st.builds(Kill, st.just("time"), seconds=st.floats(0, 0.3)),
    st.builds(
        Kill, st.just("place"), after=st.integers(0, 24),
        place=st.sampled_from([place for place in PLACES if place not in ("outside", "done")]),
    ),
    st.builds(Kill, st.just("operation"), operation=st.integers(0, 600)),
)  # fmt: skip


def check(bench, made, schedule):
    """Run a program whole, then as scheduled, then to its end; the same bits."""
    folder = bench.folder / "any"
    shutil.rmtree(folder, ignore_errors=True)
    whole = run_whole(bench.case("any/whole", made))
    one = bench.case("any/killed", made)
    for kill in schedule:
        ending = kill.run(one)
        assert ending.killed or ending.result.rc == 0, ending.result.err
    ending = one.run()
    assert ending.result.rc == 0, ending.result.err
    assert differences(whole.result, one.result()) == []


def property_of(examples):
    """The decorator: the same examples at every run, none of them thrown away for being slow."""
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]
    return settings(
        max_examples=examples, derandomize=True, deadline=None, suppress_health_check=quiet,
        phases=[Phase.explicit, Phase.generate], database=None,
    )  # fmt: skip


@property_of(2)
@given(made=programs, schedule=st.lists(kills, min_size=1, max_size=3))
def test_a_few_schedules(bench, made, schedule):
    """Killed as scheduled, a program ends with the bits of one that is not."""
    check(bench, made, schedule)


@pytest.mark.long
@property_of(120)
@given(made=programs, schedule=st.lists(kills, min_size=1, max_size=4))
def test_many_schedules(bench, made, schedule):
    """The same, for more of them."""
    check(bench, made, schedule)
