"""Each built-in recipe through the engine: train, validate, test, finish."""

from __future__ import annotations

from dataclasses import fields

import pytest

import loopwright as lw
from loopwright.recipes import registry


@pytest.fixture
def small_data(tmp_path, clothes):
    """Return what each recipe is given to be small and quick."""
    text = tmp_path / "text.txt"
    text.write_text("To be, or not to be, that is the question:\n" * 40)
    rows = tmp_path / "rows.csv"
    rows.write_text("x,w,y\n" + "\n".join(f"{n},{'ab'[n % 2]},{n * 1.5}" for n in range(40)))
    return {
        "digits": {"hidden": 8},
        "fashion-mnist": {"data": clothes, "width": 4},
        "char-lm": {"data": text, "context": 16, "width": 16, "heads": 2, "layers": 1},
        "table": {"data": rows, "target": "y", "hidden": 8},
    }


def trained(name, values):
    """Return the run of a recipe's job, two steps long."""
    lw.seed(0)
    job = registry.get(name).build(values)
    given = {field.name: getattr(job, field.name) for field in fields(job)}
    for own in ("read", "answer", "example", "epochs", "minutes"):
        del given[own]
    return lw.fit(**given | {"steps": 2}, progress=False)


@pytest.mark.parametrize("name", ["digits", "fashion-mnist", "char-lm", "table"])
def test_every_recipe_trains(name, small_data):
    """Two steps, validation, the test and the last word of a recipe go through ``lw.fit``."""
    run = trained(name, small_data[name])
    assert run.totals["turns"] == 2


def test_images_train(tmp_path):
    """The same for pictures, where Pillow is installed."""
    image = pytest.importorskip("PIL.Image")
    for name, colour in (("cat", "red"), ("dog", "blue")):
        (tmp_path / name).mkdir()
        for number in range(8):
            image.new("RGB", (20, 20), colour).save(tmp_path / name / f"{number}.png")
    values = {"data": tmp_path, "size": 16, "width": 4}
    assert trained("images", values).totals["turns"] == 2


def test_the_same_seed_gives_the_same_weights(small_data):
    """A recipe is a function of its parameters and the seed."""
    first, second = (trained("char-lm", small_data["char-lm"]) for _ in range(2))
    for ours, theirs in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert ours.equal(theirs)
