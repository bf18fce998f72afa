"""Python's keywords in hints, written as the flags that they are on the command line."""

from __future__ import annotations

import pytest

from loopwright.cli.as_flags import as_flags


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("another out=, a new or empty folder", "another --out, a new or empty folder"),
        ('device="auto" takes what there is', "--device auto takes what there is"),
        ("a lower lr, clip=1.0, or log(0)", "a lower lr, --clip 1.0, or log(0)"),
        (
            "allow_change=['clip', 'model 0 layer', …] to go on",
            "--allow-change clip --allow-change 'model 0 layer' to go on",
        ),
        ("allow_change is for values", "--allow-change is for values"),
        (
            'or lw.load_weights("runs/a b", model, strict=False) for the weights',
            "or --init 'runs/a b' for the weights",
        ),
        ("say epochs= or steps=", "say --epochs or --steps"),
    ],
)
def test_flags(said, shown):
    """What has a flag is written as that flag, quoted for a shell."""
    assert as_flags(said) == shown


@pytest.mark.parametrize(
    "said",
    [
        "run.loop(dataset, batch_size=32, shuffle=True, steps=3) or a DataLoader",
        "return lw.Job(model=…, optimizer=…, epochs=…)",
        "nonfinite_every=1 without a fused optimizer names the module",
        "the optimizer holds other parameters; log nothing, open the report",
        "step.log(valid_loss=…)",
    ],
)
def test_words_stay(said):
    """What has no flag, stands in a call, or is plain English, stays as it is."""
    assert as_flags(said) == said
