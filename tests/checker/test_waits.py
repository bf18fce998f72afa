"""What reading numbers costs, by a clock that the test turns."""

from __future__ import annotations

from types import SimpleNamespace

from torch.utils.data import DataLoader

from loopwright.checker.accounts.waits import Waits
from loopwright.checker.rules.waits import ItemSyncEveryStep
from loopwright.events import Event
from loopwright.observe.sites import Site
from loopwright.train.loop import Loop


def trained(*, read_ms, every=1, steps=40, hiccup_ms=0.0, reader=None):
    """Waits of a training whose steps take 9 ms and which reads a number in some of them."""
    now = [0.0]
    waits = Waits(clock=lambda: now[0])
    here = Site((reader or trained).__code__, 0, (trained.__code__, 0))
    for number in range(steps):
        if number % every == 0:
            event = Event("item", here, number, None)
            waits.before_item(event)
            now[0] += (read_ms + hiccup_ms * (number == steps // 2)) / 1000
            waits.after_item(event)
        now[0] += (9 - read_ms * (number % every == 0)) / 1000
        waits.after_step(Event("step", here, number, None))
    return [one.message for one in ItemSyncEveryStep().findings(SimpleNamespace(waits=waits))]


def test_the_measured_wait_is_told():
    """Both times are those of this run."""
    (message,) = trained(read_ms=3.1)
    assert message == "a number was read here in every step, and waited 3.1 ms of a 9 ms step"


def test_what_costs_little_or_is_rare_is_not_told():
    """A read that waits for less than a tenth of the step, or comes now and then, is fine."""
    assert trained(read_ms=0.8) == []
    assert trained(read_ms=8, every=10) == []
    assert trained(read_ms=3.1, steps=6) == []


def test_one_hiccup_is_no_wait():
    """A read that was interrupted once for long, on a machine with other work, waits in no typical step."""
    assert trained(read_ms=0.02, hiccup_ms=400) == []
    assert len(trained(read_ms=3.1, hiccup_ms=400)) == 1


def test_what_a_run_reads_itself():
    """Under the user's line, but nothing that he could leave out; what another library reads is told."""
    assert trained(read_ms=3.1, reader=Loop.record_loss) == []
    assert len(trained(read_ms=3.1, reader=DataLoader.__iter__)) == 1
