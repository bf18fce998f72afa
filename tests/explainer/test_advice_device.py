"""Advice about copies to a device, with one that stands in for a GPU, and copies that take a known time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from explainer.clock import library
from explainer.recorded import recorded_here
from loopwright.explainer.effects import device
from loopwright.explainer.times import tries
from loopwright.report import explain_html, explain_terminal

SPACE = library(
    """
original = torch.Tensor.to


def to(tensor, *args, **kwargs):
    CLOCK.takes(40 if tensor.dim() == 2 else 15)
    return original(tensor, *args, **kwargs)
"""
)
CLOCK = SPACE["CLOCK"]
THERE = torch.device("meta")
"""Where nothing is computed, which no line here needs."""
BEFORE, AFTER = 60e-6, 35e-6
"""Seconds that the comparison of ordinary and pinned memory says."""


def train():
    """A step of 100 µs, of which 40 copy the batch and 15 a mask that is made on the host."""
    data = torch.utils.data.TensorDataset(torch.ones(64, 3), torch.zeros(64))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch, _ in loader:
        optimizer.zero_grad()
        there = batch.to(THERE)
        mask = torch.ones(8).to(THERE)
        model(batch).sum().backward()
        optimizer.step()
        CLOCK.takes(45)
        del there, mask


@pytest.fixture(scope="module")
def made():
    """What was compared: bytes of the copies, where to, pinned or not, and whether it waited."""
    return []


@pytest.fixture(scope="module")
def seen(made):
    """The narrated record."""

    def compare(now, other):
        made.append((now(), other()))
        return (
            (BEFORE, AFTER, True)
            if all(one.device == THERE for one in made[-1][0])
            else (1, 1, False)
        )

    def pin_memory(tensor):
        made.append(tensor)
        return tensor.clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "to", SPACE["to"])
        patch.setattr(torch.Tensor, "pin_memory", pin_memory)
        patch.setattr(torch.cuda, "is_initialized", lambda: True)
        patch.setattr(device, "mark", lambda: None)
        for name in ("step", "zeroing", "fetching"):
            patch.setattr(tries, name, lambda *_: None)
        patch.setattr(tries, "compare", compare)
        return recorded_here(train, steps=2, timed=5, clock=CLOCK)


def advice(seen):
    """Title to advice, and the text of the line that it stands at."""
    (timing,) = seen.timings
    lines = seen.files[0].text.splitlines()
    return {one.title: (one, lines[one.line - 1].strip()) for one in timing.advice}


def test_pinned_memory(seen, made):
    """Copies of the same sizes are compared, out of ordinary and out of pinned memory; the gain is theirs."""
    pinned = [one for one in made if isinstance(one, torch.Tensor)]
    assert [one.numel() for one in pinned] == [4 * 3 * 4, 8 * 4]
    (both,) = [one for one in made if not isinstance(one, torch.Tensor)]
    for way in both:
        assert [(one.numel(), one.device) for one in way] == [(48, THERE), (32, THERE)]
    found, line = advice(seen)["Pin the batches' memory, and do not wait for their copies"]
    assert line == "there = batch.to(THERE)"
    assert found.how == "measured"
    assert found.gain == pytest.approx((BEFORE - AFTER) / 100e-6)
    assert "Copies of 80 B take 60 µs" in found.detail.replace("\xa0", " ")
    assert "pin_memory=True" in found.code


def test_a_small_tensor_made_on_the_host(seen):
    """Its copy's own time is what would be gained."""
    found, line = advice(seen)["Make this tensor on the device, instead of copying it there"]
    assert line == "mask = torch.ones(8).to(THERE)"
    assert (found.how, found.code) == ("computed", "torch.ones(..., device=device)")
    assert found.gain == pytest.approx(0.15)


def test_data_that_would_fit(seen):
    """It could be there before the loop: the batch's copy is gained, and not that of the mask."""
    found, line = advice(seen)["Bring the data to meta once, before the loop"]
    assert line == "there = batch.to(THERE)"
    assert found.gain == pytest.approx(0.4)


def test_it_stands_on_page_and_terminal(seen):
    """Largest gain first."""
    text, html = explain_terminal.render(seen), explain_html.render(seen)
    titles = list(advice(seen))
    assert len(titles) == 3
    at = [text.index(one) for one in titles]
    assert at == sorted(at)
    assert all(one.replace("'", "&#39;") in html for one in titles)
