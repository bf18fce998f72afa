"""Device times and waiting, with a device whose clock is ours: sums, medians, what stands on the page."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import pytest
import torch

from explainer.recorded import recorded_here
from loopwright.explainer import device
from loopwright.report import explain_html, explain_terminal

WAIT_NS = 7_000_000
STAND_INS = """
class Mark:
    def __init__(self, at, device="cuda:0"):
        self.at = at
        self.device = device

    def elapsed_time(self, other):
        return other.at - self.at


class Time:
    now = 0

    def clock(self):
        self.now += 2_000
        return self.now

    def wait(self, tensor):
        self.now += WAIT_NS

    def mark(self):
        return Mark(self.now / 1e6)

    def comes_to_host(self, kind, *_):
        return kind == "item"
"""
SPACE = {"WAIT_NS": WAIT_NS}
exec(compile(STAND_INS, json.__file__, "exec"), SPACE)  # a library's code, which is not followed
Mark, Time = SPACE["Mark"], SPACE["Time"]


def span(phase, began, ended, first, last, *, waited=0, inner=()):
    """A call from ``began`` to ``ended`` (ns) on the host, from ``first`` to ``last`` (ms) on the device."""
    return device.Span(phase, None, began, ended, waited, Mark(first), Mark(last), list(inner))


def turn(*spans):
    """A turn of these calls, whose own mark is at 0."""
    return SimpleNamespace(spans=list(spans), origin=100, mark=Mark(0.0))


def test_phases_are_medians_of_what_is_their_own():
    """What another phase takes inside a call (a closure's backward) is not the call's; medians over turns."""
    turns = []
    for extra in (0, 1, 50):
        backward = span("backward", 0, 10, 2, 5 + extra)
        turns.append(turn(backward, span("step", 0, 20, 1, 7 + extra, inner=[backward])))
    found = device.phases(turns)
    assert found == {"backward": pytest.approx(0.004), "step": pytest.approx(0.003)}


def test_marks_of_two_devices_are_not_compared():
    """A span that began on one device and ended on another has no device time."""
    odd = span("forward", 0, 10, 2, 5)
    odd.last.device = "cuda:1"
    assert device.phases([turn(odd)]) == {"forward": 0.0}


def test_waiting_and_copying_are_told_apart():
    """Of each phase that waits, summed over its calls in a turn."""
    one = turn(
        span("item", 0, 1000, 0, 1, waited=700),
        span("item", 2000, 2500, 1, 2, waited=400),
        span("forward", 0, 5, 0, 1),
    )
    assert device.waits([one]) == {"item": [pytest.approx(1.1e-6), pytest.approx(0.4e-6)]}


def test_a_timeline_has_two_lanes():
    """Seconds since the step began, on each clock."""
    (host, on_device) = device.timeline(turn(span("loss", 600, 1600, 3, 4, waited=100)))
    assert (host.lane, host.began, host.seconds, host.waited) == (
        "host", pytest.approx(5e-7), pytest.approx(1e-6), pytest.approx(1e-7))  # fmt: skip
    assert (on_device.lane, on_device.began, on_device.seconds) == (
        "device", pytest.approx(0.003), pytest.approx(0.001))  # fmt: skip


@pytest.fixture(scope="module")
def seen():
    """A training recorded with a clock that goes on by itself, and a device that is always 7 ms behind."""
    time = Time()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("mark", "comes_to_host", "wait"):
            patch.setattr(device, name, getattr(time, name))
        return recorded_here(train, steps=2, timed=4, clock=time.clock)


def train():
    """Six steps, each of which reads its loss."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        optimizer.zero_grad()
        loss = model(torch.ones(3, 2)).sum()
        loss.backward()
        optimizer.step()
        loss.item()


def test_item_is_split(seen):
    """The waiting is the device's 7 ms, the copy what the call took after it; the phase is both."""
    (timing,) = seen.timings
    waited, copied = timing.waits["item"]
    assert waited == pytest.approx(WAIT_NS / 1e9, abs=1e-5)
    assert 0 < copied < 1e-4
    assert timing.phases["item"] == pytest.approx(waited + copied, rel=0.01)
    facts = [event.facts for step in seen.steps for line in step.lines for event in line.events
             if event.kind == "item"]  # fmt: skip
    assert [one["waited"] for one in facts] == [pytest.approx(waited)] * 2
    assert [one["copied_in"] for one in facts] == [pytest.approx(copied)] * 2


def test_every_phase_has_device_time(seen):
    """The timeline has each call once in each lane, in order."""
    (timing,) = seen.timings
    assert set(timing.device) == {"zero_grad", "forward", "backward", "step", "item"}
    for lane in ("host", "device"):
        spans = [one for one in timing.timeline if one.lane == lane]
        assert [one.phase for one in spans] == ["zero_grad", "forward", "backward", "step", "item"]
        assert all(a.began + a.seconds <= b.began + 1e-9 for a, b in itertools.pairwise(spans))


def test_it_stands_on_page_and_terminal(seen):
    """A column, two lanes, the hatched waiting; and two lines in the terminal."""
    html = explain_html.render(seen)
    assert "On the device</th>" in html
    assert ">device</text>" in html
    assert 'class="waited"' in html
    text = explain_terminal.render(seen)
    assert "On the device: " in text
    assert "item waits 7" in text


def test_without_a_device_nothing_is_marked():
    """A CPU's tensors wait for nothing, and there are no marks."""
    assert device.mark() is None or torch.cuda.is_initialized()
    assert not device.comes_to_host("item", torch.ones(1), (), {})
