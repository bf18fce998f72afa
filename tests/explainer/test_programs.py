"""Programs of very different shapes are explained without an error, with every event at its own line."""

from __future__ import annotations

import pytest

from explainer.recorded import PROGRAMS, record
from loopwright.report import explain_html, explain_json, explain_terminal

FILES = sorted((PROGRAMS / "clean").glob("*.py"))
WITHOUT_STEPS = {"no_torch_training_at_all", "torch_func"}
WORDS = {"backward": ("backward", "accelerator"), "zero_grad": ("zero_grad",), "step": ("step", "minimize"),
         "item": ("item", "float", "int", "tolist", "if", "while", "numpy", "print", "assert", "bool"),
         "clip": ("clip",), "schedule": ("step",), "mode": ("train", "eval"), "grad": ("grad",),
         "fetch": ("for", "next", "enumerate", "update_bn")}  # fmt: skip


QUICK = {"gan_alternating", "threads", "lbfgs"}
PROGRAMS_OF_ALL_SHAPES = [
    pytest.param(path, marks=[] if path.stem in QUICK else pytest.mark.long, id=path.stem)
    for path in FILES
]


@pytest.mark.parametrize("path", PROGRAMS_OF_ALL_SHAPES)
def test_program(path, run_program, tmp_path):
    """Nothing fails; events stand at lines that call them; updates are what their rule says."""
    seen = record(run_program, path, tmp_path / "record.json", timed=2)
    assert seen.notes == []
    if path.stem not in WITHOUT_STEPS:
        assert seen.steps
    for step in seen.steps:
        for line in step.lines:
            text = seen.files[line.file].text.splitlines()
            for event in line.events:
                place = "\n".join(text[event.line - 1 : event.end_line])
                words = WORDS.get(event.kind)
                assert words is None or any(word in place for word in words), (event, place)
        for rule in step.rules:
            assert rule.agrees, rule
    assert all(len(line) <= 100 for line in explain_terminal.render(seen).splitlines())
    assert len(explain_html.render(seen)) < 2_000_000
    assert explain_json.render(seen).startswith("{")
