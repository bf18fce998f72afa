"""Numbers that are read by formatting a tensor are read as by ``.item()``."""

from __future__ import annotations

import torch
from torch import nn

from explainer.recorded import line, recorded_here, step


def train():
    """Three steps that print their loss."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(torch.ones(2, 4)).square().mean()
        loss.backward()
        optimizer.step()
        print(f"{loss:.4f} {loss.detach():.2f} {model.bias}")


def test_a_formatted_loss_is_an_item(capsys):
    """Its line has the badge and the number; a tensor that is no scalar is shown; the text is torch's."""
    seen = recorded_here(train, timed=0)
    shown = capsys.readouterr().out
    train()
    assert shown == capsys.readouterr().out
    note = line(step(seen, 1), seen, "print(f")
    assert note.phases == ["item"]
    first = float(shown.split()[0])
    read = [event for event in note.events if event.kind == "item"]
    assert [round(event.facts["value"], 4) for event in read] == [first, first]
    assert (
        note.sentences[0]
        == f"`loss` becomes a plain Python number: {first:.4g}; it holds no graph."
    )
