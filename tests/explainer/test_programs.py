"""Programs of very different shapes are explained without an error, with every event at its own line.

Plain torch in every style (``tests/programs/clean``), what people write (every fifth of ``tests/corpus``),
loops that a library drives, several ranks. Those of libraries that are not installed are skipped one by one.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from explainer.recorded import PROGRAMS, record
from loopwright.events.explained import ExplainRecord
from loopwright.explainer.merge import plain
from loopwright.report import explain_html, explain_json, explain_terminal

FILES = sorted((PROGRAMS / "clean").glob("*.py"))
CORPUS = [
    path for path in sorted((Path(__file__).parents[1] / "corpus").glob("*/fixed.py"))[::5]
    if "torch.multiprocessing" not in path.read_text()  # several processes: see ``test_two_ranks``
]  # fmt: skip
LEAST = 100
WITHOUT_STEPS = {"no_torch_training_at_all", "torch_func"}
WORDS = {"backward": ("backward", "accelerator"), "zero_grad": ("zero_grad",), "step": ("step", "minimize"),
         "item": ("item", "float", "int", "tolist", "if", "while", "numpy", "print", "assert", "bool",
                  "tensor("),
         "clip": ("clip",), "schedule": ("step",), "mode": ("train", "eval"), "grad": ("grad",),
         "fetch": ("for", "next", "enumerate", "update_bn")}  # fmt: skip
OF_A_RUN = {"backward": ("lw.fit(",), "step": ("lw.fit(",), "fetch": ("lw.fit(",),
            "item": ("lw.fit(", "step.backward(", "step.update()")}  # fmt: skip
"""What a run does stands at the line that calls it: on a CPU it looks at its losses and norms itself."""


QUICK = {"gan_alternating", "threads", "lbfgs"}
PROGRAMS_OF_ALL_SHAPES = [
    pytest.param(path, marks=[] if path.stem in QUICK else pytest.mark.long, id=path.stem)
    for path in FILES
] + [pytest.param(path, marks=pytest.mark.long, id=path.parent.name) for path in CORPUS]


def test_there_are_many():
    """Far more than thirty, of which a few run each time."""
    assert len(PROGRAMS_OF_ALL_SHAPES) + len(LOOPS) >= LEAST


@pytest.mark.parametrize("path", PROGRAMS_OF_ALL_SHAPES)
def test_program(path, run_program, tmp_path):
    """Nothing fails; events stand at lines that call them; updates are what their rule says."""
    seen = record(run_program, path, tmp_path / "record.json", timed=2)
    assert seen.notes == []
    if path.stem not in WITHOUT_STEPS:
        assert seen.steps
    also = OF_A_RUN if "import loopwright as lw" in path.read_text() else {}
    at_their_lines(seen, {kind: words + also.get(kind, ()) for kind, words in WORDS.items()})
    drawn(seen)


def at_their_lines(seen, words):
    """Events are where they are called, and written-out updates are torch's."""
    for step in seen.steps:
        for line in step.lines:
            text = seen.files[line.file].text.splitlines()
            for event in line.events:
                place = "\n".join(text[event.line - 1 : event.end_line])
                wanted = words.get(event.kind)
                assert wanted is None or any(word in place for word in wanted), (event, place)
        for rule in step.rules:
            assert rule.agrees, rule


def drawn(seen):
    """Terminal, page and JSON can be made of it."""
    assert all(len(line) <= 100 for line in explain_terminal.render(seen).splitlines())
    assert len(explain_html.render(seen)) < 2_000_000
    assert explain_json.render(seen).startswith("{")


LOOPS = {
    # program -> the library it needs, and what stands at which line
    "our_run": ("loopwright", {"run.model(data)": {"forward", "loss"}, "step.backward(loss)": {"backward"},
                               "step.update()": {"step"}}),
    "our_fit": ("loopwright", {"lw.fit(": {"fetch", "forward", "loss", "backward", "step"}}),
    "workers": ("torch", {"for data, labels": {"fetch"}, "model(data)": {"forward", "loss"},
                          "loss.backward()": {"backward"}, "optimizer.step()": {"step"}}),
    "lightning_fit": ("lightning", {"self.net(data)": {"forward"}, "nn.functional.cross_entropy": {"loss"},
                                    "trainer.fit(": {"fetch", "zero_grad", "backward", "step"}}),
    "accelerate_loop": ("accelerate", {"for data, labels": {"fetch"}, "model(data)": {"forward"},
                                       "cross_entropy": {"loss"}, "accelerator.backward(loss)": {"backward"},
                                       "optimizer.step()": {"step"}, "optimizer.zero_grad()": {"zero_grad"}}),
    "hf_trainer": ("transformers", {"nn.functional.cross_entropy": {"loss"},
                                    ".train()": {"fetch", "zero_grad", "forward", "backward", "step"}}),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[] if one == "our_run" else pytest.mark.long) for one in LOOPS]
)
def test_loops_of_libraries(name, run_program, tmp_path):
    """What a library does stands at the program's line that called it; the program's own code at its own."""
    library, expected = LOOPS[name]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    seen = record(run_program, PROGRAMS / "loops" / f"{name}.py", tmp_path / "record.json", timed=2)
    text = seen.files[0].text.splitlines()
    phases = {}
    for step in seen.steps:
        for line in step.lines:
            if line.file == 0:
                phases.setdefault(text[line.line - 1].strip(), set()).update(line.phases)
    for words, wanted in expected.items():
        there = set().union(*(found for place, found in phases.items() if words in place))
        assert wanted <= there, (words, there)
    drawn(seen)


@pytest.mark.long
def test_two_ranks(run_cli, tmp_path):
    """What another rank does differently stands beside the first one's; gradients do not differ."""
    words = (
        "--json=seen.json",
        "--html",
        "seen.html",
        str(PROGRAMS / "ranks" / "training.py"),
        "nothing",
    )
    done = run_cli("explain", *words, cwd=tmp_path)
    assert done.rc == 0, done.err
    found = json.loads((tmp_path / "seen.json").read_text())
    found.pop("version")
    seen = plain(ExplainRecord, found)
    assert (seen.rank, "2 ranks ran the same loop" in " ".join(seen.notes)) == (0, True)
    text = seen.files[0].text.splitlines()
    differ = {
        text[line.line - 1].strip(): line.ranks
        for step in seen.steps
        for line in step.lines
        if line.ranks
    }
    (beside,) = differ.values()
    assert list(differ) == ["nn.functional.cross_entropy(logits, labels).backward()"]
    assert [one.startswith("cross_entropy of 32×2 and 32") for one in beside["1"]] == [True]
    for step in (one for one in seen.steps if one.losses):
        assert set(step.ranks) == {"0", "1"}
        assert step.ranks["0"] == step.losses != step.ranks["1"]
    assert "rank 1: cross_entropy" in done.out
    assert "Loss of each rank: rank 0" in done.out
    assert "<small>rank 1</small>" in (tmp_path / "seen.html").read_text()


@pytest.mark.long
def test_what_only_another_rank_runs(run_cli, tmp_path):
    """A line that the first rank leaves out has what another one does there beside it."""
    text = (PROGRAMS / "ranks" / "training.py").read_text()
    only = "            if rank == 1:\n                shown = inputs.sum().item()\n"
    (tmp_path / "two.py").write_text(
        text.replace("optimizer.step()\n", f"optimizer.step()\n{only}")
    )
    words = ("--json=seen.json", "--html", "seen.html", "two.py", "nothing")
    done = run_cli("explain", *words, cwd=tmp_path)
    assert done.rc == 0, done.err
    found = json.loads((tmp_path / "seen.json").read_text())
    number = 1 + (tmp_path / "two.py").read_text().splitlines().index(only.splitlines()[1])
    beside = [
        line["ranks"] for step in found["steps"] for line in step["lines"] if line["line"] == number
    ]
    assert beside
    for ranks in beside:
        assert ranks["0"] == ["It does not run this line."]
        assert ranks["1"] != ranks["0"]
    assert "rank 0: It does not run this line." in done.out
    assert "It does not run this line." in (tmp_path / "seen.html").read_text()
