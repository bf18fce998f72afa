"""A resume that has to read data again says so while it does; one that moves a sampler has nothing to say."""

from __future__ import annotations

import re

import pytest
from small import dataset, loader, make, turn
from torch.utils.data import DataLoader, IterableDataset, Sampler

import loopwright as lw


class Stream(IterableDataset):
    """The samples one after the other."""

    def __iter__(self):
        yield from dataset()


class Backwards(Sampler):
    """A sampler of the user's, which has to be asked for each index."""

    def __len__(self):
        return 24

    def __iter__(self):
        yield from reversed(range(24))


KINDS = {
    "a stream": (lambda: DataLoader(Stream(), 4), True),
    "a stream with workers": (lambda: DataLoader(Stream(), 4, num_workers=2), True),
    "a function": (lambda: lambda: iter(loader()), True),
    "a list": (lambda: list(loader()), False),
    "a sampler of one's own": (lambda: loader(sampler=Backwards()), True),
    "sequential": (loader, False),
    "shuffled": (lambda: loader(shuffle=True), False),
    "shuffled with workers": (lambda: loader(shuffle=True, num_workers=2), False),
}


@pytest.mark.parametrize(
    ("kind", "progress"),
    [
        pytest.param(
            kind, progress, id=kind if progress else f"{kind}-quiet",
            marks=() if progress or kind == "a stream" else pytest.mark.long,
        )
        for kind in KINDS for progress in (True, False)
    ],
)  # fmt: skip
def test_going_forward_is_shown(tmp_path, monkeypatch, capsys, kind, progress):
    """Where batches are read again a bar shows how many of them, unless progress is off."""
    monkeypatch.setattr("loopwright.train.display.progress.PATIENCE", 0.0)
    make_batches, reads_again = KINDS[kind]
    settings = {"checkpoint": lw.Checkpoint(every_steps=1), "progress": progress}
    with pytest.raises(KeyError), make(tmp_path / "run", **settings) as run:
        for step in run.loop(make_batches(), epochs=2):
            if step.index == 9:
                raise KeyError
            turn(run, step)
    assert "going forward" not in capsys.readouterr().err
    run = make(tmp_path / "run", **settings)
    for step in run.loop(make_batches(), epochs=2):
        turn(run, step)
    said = capsys.readouterr().err
    assert ("going forward in the data" in said) == (reads_again and progress)
    if reads_again and progress:
        assert re.search(r"0/(3|9)", said)
    assert ("resumed at turn 9" in said) == progress
