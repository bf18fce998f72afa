"""Sentences are made of what was measured: a changed program changes what it should, and nothing else."""

from __future__ import annotations

import re

import pytest

from explainer.recorded import line, record, said, step
from loopwright.explainer.difference import difference

PROGRAM = """\
import torch
from torch import nn
torch.manual_seed(0)
X = torch.randn(64, 5)
Y = X.sum(1, keepdim=True)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=16)
model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for data, target in loader:
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(data), target)
    loss.backward()
    optimizer.step()
    total = loss.item()
"""
CHANGES = {
    "as it is": ("", ""),
    "lr": ("lr=0.1", "lr=0.2"),
    "batch size": ("batch_size=16", "batch_size=32"),
    "adam": ("SGD", "Adam"),
    "no zero_grad": ("    optimizer.zero_grad()\n", ""),
    "no step": ("    optimizer.step()\n", ""),
    "no item": ("loss.item()", "loss"),
    "kept": ("loss.backward()", "loss.backward(retain_graph=True)"),
}


@pytest.fixture(scope="module")
def told(run_program, tmp_path_factory):
    """``told(change)`` is the record of the program with one change."""
    made = {}

    def tell(change):
        if change not in made:
            folder = tmp_path_factory.mktemp("told")
            path = folder / "train.py"
            path.write_text(PROGRAM.replace(*CHANGES[change]) if change != "as it is" else PROGRAM)
            made[change] = record(run_program, path, folder / "record.json", timed=2, whatifs=False)
        return made[change]

    return tell


def sentences(seen, number, text):
    """What is said of a line in a step."""
    return [one.replace("\xa0", " ") for one in line(step(seen, number), seen, text).sentences]


def without(told, *names):
    """Sentences with their lines, those of lines that hold a name left out."""
    return [one for one in said(told) if not any(name in one.partition(" | ")[0] for name in names)]


def test_the_learning_rate_changes_the_steps(told):
    """In the first step, only the optimizer's lines differ: the move is twice as long."""
    plain, changed = told("as it is"), told("lr")
    assert sentences(plain, 1, "backward()") == sentences(changed, 1, "backward()")
    assert sentences(plain, 1, "mse_loss") == sentences(changed, 1, "mse_loss")
    moved = [
        line(step(one, 1), one, "optimizer.step()").effects.parameters[0].delta
        for one in (plain, changed)
    ]
    assert moved[1] == pytest.approx(2 * moved[0], rel=1e-6)
    assert sentences(plain, 1, "step()") != sentences(changed, 1, "step()")
    assert "(lr 0.2)" in " ".join(said(changed))
    assert "(lr 0.1)" not in " ".join(said(changed))
    assert sentences(plain, 2, "mse_loss") != sentences(changed, 2, "mse_loss")


def test_the_batch_size_changes_shapes(told):
    """16 becomes 32 wherever the batch stands."""
    plain, changed = told("as it is"), told("batch size")
    assert "`data` 16×5 float32, `target` 16×1 float32; 384 B." in " ".join(
        sentences(plain, 1, "for data")
    )
    assert "`data` 32×5 float32, `target` 32×1 float32; 768 B." in " ".join(
        sentences(changed, 1, "for data")
    )
    assert "the mean over 32 samples" in " ".join(sentences(changed, 1, "mse_loss"))
    assert not re.search(r"\b16×", " ".join(said(changed)))


def test_another_optimizer_has_another_memory(told):
    """Adam begins to remember two averages; SGD without momentum nothing."""
    assert not any("remember:" in one for one in said(told("as it is")))
    assert "`exp_avg` (57 numbers), `exp_avg_sq` (57 numbers)" in " ".join(
        sentences(told("adam"), 1, "step()")
    )
    assert [rule.optimizer for rule in step(told("adam"), 1).rules] == ["optimizer"]
    assert len(step(told("adam"), 1).rules[0].steps) == 4
    assert len(step(told("as it is"), 1).rules[0].steps) == 1


def test_without_zero_grad_gradients_are_added_to(told):
    """Deleting a line deletes its sentences, and backward says that it adds."""
    plain, changed = told("as it is"), told("no zero_grad")
    assert any("`None` → values" in one for one in sentences(plain, 2, "backward()"))
    assert any("**added** to what was there" in one for one in sentences(changed, 2, "backward()"))
    assert sentences(plain, 1, "backward()") == sentences(changed, 1, "backward()")
    assert not any("is `None` again" in one for one in said(changed))
    assert changed.glossary[2]["here"] == "This program has none."


def test_without_a_step_nothing_moves(told):
    """No parameter moves, and zero_grad says that no step had used what it throws away."""
    changed = told("no step")
    number = next(at for at, one in enumerate(changed.loops) if one.kind == "gradients")
    second = next(one for one in changed.steps if (one.loop, one.number) == (number, 2))
    assert any(
        "**no step had used it**" in one for one in line(second, changed, "zero_grad").sentences
    )
    assert not any("‖Δp‖" in one for one in said(changed))
    used = sentences(told("as it is"), 2, "zero_grad")
    assert any("the last step had used it" in one for one in used)


def test_item_and_what_hangs_on_a_tensor(told):
    """``.item()`` gives a number without a graph; without it a tensor with one."""
    assert sentences(told("as it is"), 1, "loss.item()")[0].endswith("it holds no graph.")
    (kept,) = line(step(told("no item"), 1), told("no item"), "total = loss").sentences
    assert "made by `MseLossBackward0`: it requires grad" in kept


def test_a_kept_graph_is_not_freed(told):
    """``retain_graph`` changes what becomes of the bytes that were kept."""
    assert " are freed" in " ".join(sentences(told("as it is"), 1, "backward()"))
    assert "is kept" in " ".join(sentences(told("kept"), 1, "backward("))


def test_the_glossary_has_this_runs_numbers(told):
    """Two sentences a phase, the second with numbers of this run."""
    seen = told("as it is")
    entries = {one["name"]: one for one in seen.glossary}
    assert len(entries) == 8
    grad = line(step(seen, 2), seen, "backward()").effects.grads[0].after
    assert f"norm {grad:.4g}" in entries["backward"]["here"]
    assert "57 numbers" in entries["step"]["here"]
    assert entries["transfer"]["here"] == "This program has none."


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("Dropout(0.5)", "dropout is off."),
        ("BatchNorm1d(8)", "batch norm uses its running statistics."),
    ],
)
def test_eval_mode_says_what_acts(layer, words, explained):
    """Only what the model holds is named."""
    seen = explained(PROGRAM.replace("nn.Tanh()", f"nn.{layer}"), timed=0)
    (told,) = [one.title for one in step(seen, 2).whatifs if one.name == "in eval mode"]
    assert told.endswith(f": {words}")


def changed(told, name):
    """Which lines differ from the program as it is: text -> how, those that only follow left out."""
    found = difference(told("as it is"), told(name))
    return {
        (one.text_after or one.text_before).partition("(")[0]: (one.change, one.step)
        for one in found.lines
        if not one.follows
    }


def test_the_same_program_twice_does_not_differ(told):
    """No line, no number."""
    found = difference(told("as it is"), told("as it is"))
    assert (found.lines, found.facts, found.notes) == ([], [], [])
    assert found.same == len(told("as it is").setup) + len(step(told("as it is"), 1).lines)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lr", {"optimizer = torch.optim.SGD": ("numbers", 0), "optimizer.step": ("numbers", 1)}),
        ("adam", {"optimizer = torch.optim.Adam": ("does", 0), "optimizer.step": ("does", 1)}),
        ("no zero_grad", {"optimizer.zero_grad": ("gone", 1), "loss.backward": ("does", 2),
                          "optimizer.step": ("numbers", 2)}),
        ("no step", {"optimizer.step": ("gone", 1), "optimizer.zero_grad": ("does", 2),
                     "loss = nn.functional.mse_loss": ("numbers", 2), "loss.backward": ("numbers", 2),
                     "total = loss.item": ("numbers", 2)}),
        ("no item", {"total = loss": ("does", 1)}),
        ("kept", {"loss.backward": ("does", 1)}),
        ("batch size", {"loader = torch.utils.data.DataLoader": ("numbers", 0),
                        "for data, target in loader:": ("numbers", 1),
                        "loss = nn.functional.mse_loss": ("numbers", 1), "loss.backward": ("numbers", 1),
                        "optimizer.step": ("numbers", 1), "total = loss.item": ("numbers", 1)}),
    ],
)  # fmt: skip
def test_the_difference_is_what_was_changed(told, name, expected):
    """Exactly the lines that do something else, or give other numbers in the first step that differs."""
    assert changed(told, name) == expected


def test_what_vanishes_is_named(told):
    """Events and sentences that stand in one of the two alone; numbers side by side."""
    found = difference(told("as it is"), told("no zero_grad"))
    gone = next(one for one in found.lines if one.change == "gone")
    assert (gone.events_before, gone.events_after, gone.line_before) == (["zero_grad"], [], 10)
    assert gone.before == [".grad of all 4 parameters was None already: nothing to clear.".replace(
        ".grad", "`.grad`", 1).replace("None", "`None`")]  # fmt: skip
    back = difference(told("no zero_grad"), told("as it is"))
    new = next(one for one in back.lines if one.change == "new")
    assert (new.events_before, new.events_after, new.line_after) == ([], ["zero_grad"], 10)
    losses = [
        f"{one.losses[-1]:.4g}"
        for one in (step(told("as it is"), 3), step(told("no zero_grad"), 3))
    ]
    assert ["loss in step 3", *losses] in found.facts
    item = next(iter(difference(told("as it is"), told("no item")).lines))
    assert (item.events_before, item.events_after) == (["item"], [])


OFTEN = """\
import torch
def make(seed):
    torch.manual_seed(seed)
    layer = torch.nn.Linear(2, 2)
    return torch.optim.SGD(layer.parameters(), lr=0.1)
one = make(1)
two = make(2)
three = make(3)
four = make(4)
five = make(5)
"""


def test_what_a_function_does_is_not_said_of_its_caller(explained):
    """A function that was looked at often enough is looked at no more; who calls it then has not done it."""
    seen = explained(OFTEN, timed=0)
    lines = seen.files[0].text.splitlines()
    callers = [note for note in seen.setup if lines[note.line - 1].endswith(")") and note.line > 5]
    assert [lines[note.line - 1] for note in callers] == lines[5:]
    assert [note.events for note in callers] == [[]] * 5
    (seeded,) = {note.line for note in seen.setup if any(one.kind == "seed" for one in note.events)}
    assert seeded == 3
