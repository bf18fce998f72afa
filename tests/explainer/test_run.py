"""The engine's own loops: the line that fetches shows the batch and its time, as a DataLoader's does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import loopwright as lw
from explainer.clock import library
from explainer.recorded import line, recorded_here, said, step
from loopwright.train.data import bulk

CLOCK = library("")["CLOCK"]


def train():
    """One epoch of eight batches, and a validation after the second."""
    torch.manual_seed(0)
    model = nn.Linear(16, 1)
    data = torch.utils.data.TensorDataset(torch.randn(128, 16), torch.randn(128, 1))
    loader = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True)
    run = lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), progress=False)
    batches = []
    for turn in run.loop(loader, epochs=1):
        inputs, labels = turn.batch
        batches += [inputs, labels]
        turn.backward(nn.functional.mse_loss(run.model(inputs), labels))
        turn.update()
        if turn.index == 1:
            for held, _ in run.evaluate(loader):
                run.model(held)
    return batches


@pytest.fixture
def gathering(monkeypatch):
    """Each batch takes 7 µs of a clock that otherwise stands still."""
    inner = bulk.Gather.fetch

    def slow(self, indices):
        CLOCK.takes(7)
        return inner(self, indices)

    monkeypatch.setattr(bulk.Gather, "fetch", slow)


@pytest.mark.usefixtures("gathering")
def test_its_loop_fetches():
    """The batch and what it took stand at the line of the loop, in the step's phases and its view."""
    got = []
    seen = recorded_here(lambda: got.append(train()), steps=3, timed=4, clock=CLOCK)
    for one, other in zip(got[0], train(), strict=True):
        assert torch.equal(one, other)
    second = step(seen, 2)
    fetching = line(second, seen, "for turn in run.loop(loader")
    (event,) = fetching.events
    assert (event.kind, event.seconds) == ("fetch", pytest.approx(7e-6))
    assert [one["shape"] for one in event.facts["batch"]] == [[16, 16], [16, 1]]
    assert fetching.sentences == ["The next batch: 16×16 float32, 16×1 float32; 1.09\u00a0kB."]
    (timing,) = seen.timings
    assert timing.phases["fetch"] == pytest.approx(7e-6)
    (brief,) = [row for row in step(seen, 3).brief if row[0] == "fetch"]
    assert brief[1:] == [f"{fetching.file}:{fetching.line}", "16×16, 16×1"]


@pytest.mark.usefixtures("gathering")
def test_its_validation_fetches():
    """``run.evaluate`` in a recorded step: eight batches at its line."""
    seen = recorded_here(train, steps=3, timed=0, clock=CLOCK)
    fetching = line(step(seen, 2), seen, "for held, _ in run.evaluate(loader)")
    taken = [one.seconds for one in fetching.events if one.kind == "fetch" and "batch" in one.facts]
    assert taken == [pytest.approx(7e-6)] * 8


def test_what_is_told_of_a_phase_says_how_much_is_not():
    """Of five losses in one step three are told, and that there are two more."""

    def train():
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            for part in range(5):
                loss = nn.functional.mse_loss(
                    model(torch.ones(2, 4)), torch.full((2, 1), 1.0 * part)
                )
                loss.backward()
                loss.item()
            optimizer.step()

    rows = {row[0]: row[2] for row in step(recorded_here(train, timed=0), 2).brief}
    for phase in ("loss", "item"):
        assert rows[phase].count(";") == 3
        assert rows[phase].endswith("; 2 more")


def test_what_a_library_reads_and_clears():
    """The engine's update clears without ``zero_grad`` and reads numbers; neither is told as the line's."""

    def train():
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        run = lw.Run(
            model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), progress=False
        )
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(8, 4)), 2)
        for turn in run.loop(loader, epochs=1):
            (data,) = turn.batch
            turn.backward(run.model(data).square().mean())
            turn.update()

    seen = recorded_here(train, timed=0)
    reads = [one for one in said(seen) if "a plain Python number" in one]
    assert reads
    assert all("| Inside the call, a scalar tensor becomes" in one for one in reads)
    (told,) = [one for one in seen.glossary if one["name"] == "zero_grad"]
    assert "nothing calls it; line" in " ".join(told.values())
