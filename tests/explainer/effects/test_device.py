"""Device times and waiting, with a device whose clock is ours: sums, medians, what stands on the page."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import pytest
import torch

from explainer.recorded import recorded_here
from loopwright.events import Event
from loopwright.explainer.effects import device
from loopwright.report import explain_html, explain_terminal

WAIT_NS = 7_000_000
STAND_INS = """
class Mark:
    def __init__(self, at, device="cuda:0"):
        self.at = at
        self.device = device
        self.passed = False

    def synchronize(self):
        self.passed = True

    def elapsed_time(self, other):
        assert self.passed and other.passed
        return other.at - self.at


class Time:
    now = 0

    def clock(self):
        self.now += 2_000
        return self.now

    def wait(self, device):
        self.now += WAIT_NS

    def mark(self):
        return Mark(self.now / 1e6)

    def waits_for(self, event):
        return "cuda:0" if event.kind == "item" else None
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
        for name in ("mark", "waits_for", "wait"):
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
    assert device.waits_for(call(torch.ones(1), "item")) is None


class OnDevice(torch.Tensor):
    """Says that it is on a GPU."""

    device = torch.device("cuda:1")


def call(tensor, name, *args, **kwargs):
    """One call of a tensor's method."""
    kind = "item" if name in ("item", "tolist") else "transfer"
    return Event(kind, None, 1, tensor, args, kwargs, name=name)


def test_which_calls_wait_for_the_device(monkeypatch):
    """Reading, and copies between host and device that are not told otherwise, both ways."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    here, there = torch.ones(2), torch.ones(2).as_subclass(OnDevice)
    waiting = [
        call(there, "item"), call(there, "tolist"), call(there, "cpu"), call(there, "to", "cpu"),
        call(there, "to", device=torch.device("cpu")), call(there, "to", here),
        call(there, "to", "cpu", torch.float64), call(there, "to", "cpu", False),
    ]  # fmt: skip
    assert [device.waits_for(one) for one in waiting] == [torch.device("cuda:1")] * len(waiting)
    assert device.waits_for(call(here, "to", "cuda:1")) == torch.device("cuda:1")
    assert device.waits_for(call(here, "cuda")) == torch.device("cuda")
    assert device.waits_for(call(here, "cuda", 1)) == torch.device("cuda:1")
    assert device.waits_for(call(here, "to", there)) == torch.device("cuda:1")
    others = [
        call(here, "item"), call(here, "to", "cpu"), call(there, "to", "cuda:0"), call(there, "float"),
        call(there, "to", torch.float64), call(there, "to", "cpu", non_blocking=True),
        call(here, "to", "cuda", torch.float64, True), call(here, "cuda", None, True),
        call(here, "to", "cuda", non_blocking=True), call(here, "to", "meta"),
    ]  # fmt: skip
    assert [device.waits_for(one) for one in others] == [None] * len(others)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert [device.waits_for(one) for one in waiting] == [None] * len(waiting)
