"""What a fix writes, to the letter: comments, blank lines, tabs and line ends stay as they are."""

from __future__ import annotations

import os
import time

import pytest

from loopwright.checker.fixes.propose import propose, write
from loopwright.events import CheckRecord, Finding, Place


def place(file, text, wanted):
    """Where ``wanted`` stands in a text, as a finding has it."""
    start = text.index(wanted)
    line = text.count("\n", 0, start) + 1
    column = start - (text.rfind("\n", 0, start) + 1) + 1
    return Place(str(file), line, column, line, column + len(wanted))


@pytest.fixture
def fixed(tmp_path):
    """``fixed(rule, at, text, **sites)``: the text after the fix of a finding at ``at``; None if unsure."""

    def run(rule, at, text, **sites):
        file = tmp_path / "train.py"
        file.write_bytes(text.encode())
        finding = Finding(rule, "error", place(file, text, at), "")
        finding.sites = {role: place(file, text, what) for role, what in sites.items()}
        record = CheckRecord([finding], files=[str(file)])
        proposal = propose(record, tmp_path, time.time() + 1)
        if not proposal.fixed:
            assert not proposal.rewrites
            return None
        (rewrite,) = proposal.rewrites
        assert rewrite.before == text.encode()
        return rewrite.after.decode()

    return run


def test_comments_and_blank_lines_stay(fixed):
    """A new line goes above the comment of the statement that it is put before."""
    text = """\
for x, y in loader:   # batches

    # how wrong are we?
    loss = f( x,y )     # odd spaces
    # and who is to blame?
    loss.backward()  # autograd
    opt.step()
"""
    after = fixed("missing-zero-grad", "opt.step()", text, backward="loss.backward()")
    assert after == text.replace(
        "    # and who is to blame?", "    opt.zero_grad()\n    # and who is to blame?"
    )


def test_a_moved_statement_takes_its_comments_along(fixed):
    """The comment above and the comment beside it go with a statement that moves."""
    text = """\
for x, y in loader:
    loss = f(x, y)
    loss.backward()

    # forget
    opt.zero_grad()  # everything
    opt.step()
"""
    after = fixed("zero-grad-after-backward", "opt.zero_grad()", text, backward="loss.backward()")
    assert (
        after
        == """\
for x, y in loader:
    loss = f(x, y)
    # forget
    opt.zero_grad()  # everything
    loss.backward()
    opt.step()
"""
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("indent", ["  ", "\t"])
def test_indentation_and_line_ends(fixed, indent, end):
    """Two blanks or a tab, Unix or Windows: as the file has it."""
    text = f"while True:{end}{indent}f().backward(){end}{indent}opt.step(){end}"
    after = fixed("missing-zero-grad", "opt.step()", text, backward="f().backward()")
    assert after == text.replace("f().b", f"opt.zero_grad(){end}{indent}f().b")


def test_no_newline_at_the_end(fixed):
    """The last line has none, before and after."""
    text = "while True:\n    f().backward()\n    opt.step()"
    after = fixed("missing-zero-grad", "opt.step()", text, backward="f().backward()")
    assert after == "while True:\n    opt.zero_grad()\n    f().backward()\n    opt.step()"


def test_between_semicolons(fixed):
    """A line of several statements stays one line."""
    text = "while True:\n    loss = f(); loss.backward(); opt.step()  # all of it\n"
    after = fixed("missing-zero-grad", "opt.step()", text, backward="loss.backward()")
    assert after == text.replace("loss.backward();", "opt.zero_grad(); loss.backward();")


def test_a_block_on_the_line_of_its_head(fixed):
    """``if ready: opt.step()`` keeps its form."""
    text = "for x in loader:\n    f(x).backward()\n    if ready: opt.step()\n"
    after = fixed("missing-zero-grad", "opt.step()", text, backward="f(x).backward()")
    assert after == text.replace("opt.step()", "opt.step(); opt.zero_grad()")


def test_letters_of_several_bytes(fixed):
    """Columns are characters, whatever stands before on the line."""
    text = "while True:\n    print('größe 🙂'); f().backward(); opt.step()\n"
    after = fixed("missing-zero-grad", "opt.step()", text, backward="f().backward()")
    assert after == text.replace("; f()", "; opt.zero_grad(); f()")


def test_the_optimizer_of_a_scaler(fixed):
    """``scaler.step(opt)`` steps ``opt``."""
    text = "while True:\n    scaler.scale(loss).backward()\n    scaler.step(self.opt)\n"
    after = fixed(
        "missing-zero-grad", "scaler.step(self.opt)", text, backward="scaler.scale(loss).backward()"
    )
    assert "    self.opt.zero_grad()\n    scaler.scale(loss)" in after


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("total += loss", "total += loss.detach()"),
        ("total += loss * 4", "total += (loss * 4).detach()"),
        ("total = total + loss", "total = total + loss.detach()"),
        ("self.total = loss + self.total", "self.total = loss.detach() + self.total"),
        ("losses.append(loss)", "losses.append(loss.detach())"),
        ("losses.append((loss, 1))", None),
        ("total = loss + other", None),
        ("kept[step] = loss", None),
    ],
)
def test_losses_that_are_kept(fixed, line, after):
    """What is added or appended is detached; where it is not clear what is kept, nothing is changed."""
    assert fixed("loss-graph-retained", line, line + "\n", held=line) == (after and after + "\n")


@pytest.mark.parametrize(
    ("imports", "after"),
    [
        ("import torch", "import copy\nimport torch\n\nbest = copy.deepcopy(m.state_dict())"),
        ("import copy", "import copy\n\nbest = copy.deepcopy(m.state_dict())"),
        (
            "from copy import deepcopy",
            "from copy import deepcopy\n\nbest = deepcopy(m.state_dict())",
        ),
        (
            '"""Docs."""\nfrom a import b',
            '"""Docs."""\nfrom a import b\nimport copy\n\nbest = copy.deepcopy(m.state_dict())',
        ),
        ("from x import copy", None),
    ],
)
def test_the_best_state(fixed, imports, after):
    """A deep copy, with an import where there is none; nothing if ``copy`` means something else."""
    text = f"{imports}\n\nbest = m.state_dict()\n"
    assert fixed("best-state-aliased", "m.state_dict()", text) == (after and after + "\n")


@pytest.mark.parametrize("loop", ["loader", "enumerate(loader)", "tqdm(enumerate(loader))"])
def test_the_samplers_epoch(fixed, loop):
    """set_epoch stands before the loop over batches, with the variable of the loop over epochs."""
    text = f"for epoch in range(3):\n    for batch in {loop}:\n        step(batch)\n"
    after = fixed("ddp-missing-set-epoch", loop, text)
    assert after == text.replace("    for b", "    loader.sampler.set_epoch(epoch)\n    for b")


def test_no_epoch_no_fix(fixed):
    """Without a counted loop over epochs there is no number to give."""
    assert (
        fixed(
            "ddp-missing-set-epoch", "loader", "while going:\n    for b in loader:\n        f(b)\n"
        )
        is None
    )


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("opt.lr = 0.1", 'for group in opt.param_groups:\n        group["lr"] = 0.1'),
        ("a = opt.lr = 0.1", None),
        ("opt.lr = 0.1; print()", None),
    ],
)
def test_the_rate(fixed, line, after):
    """An attribute that nobody reads becomes the rate of every group."""
    found = fixed("lr-assignment-ignored", "opt.lr", f"if late:\n    {line}\n")
    assert found == (after and f"if late:\n    {after}\n")


def test_softmax_is_taken_out(fixed):
    """A result's softmax, and the last layer of a Sequential."""
    text = "def forward(self, x):\n    return F.softmax(self.net(x), dim=1)  # probabilities\nloss(a, b)\n"
    assert fixed("double-softmax", "loss(a, b)", text) == text.replace(
        "F.softmax(self.net(x), dim=1)", "self.net(x)"
    )
    text = "net = nn.Sequential(\n    nn.Linear(2, 2),\n    nn.Softmax(dim=1),\n)\nloss(a, b)\n"
    assert fixed("double-softmax", "loss(a, b)", text) == text.replace(
        "    nn.Softmax(dim=1),\n", ""
    )


def test_two_softmaxes_are_not_sure(fixed):
    """With attention of its own in the program nothing is taken out."""
    text = "def a(x):\n    return x.softmax(1)\ndef b(x):\n    return x.softmax(1)\nloss(a, b)\n"
    assert fixed("double-softmax", "loss(a, b)", text) is None


def test_a_schedule_by_epochs_and_by_batches(fixed):
    """Out of the loop over batches, or behind the optimizer's step in it."""
    inside = (
        "for e in r:\n    for b in loader:\n        opt.step()\n        sch.step()\n    report()\n"
    )
    outside = (
        "for e in r:\n    for b in loader:\n        opt.step()\n    sch.step()\n    report()\n"
    )
    rule = "scheduler-wrong-frequency"
    assert fixed(rule, "sch.step()", inside, step="opt.step()") == outside
    assert fixed(rule, "sch.step()", outside, step="opt.step()") == inside


def test_files_that_may_not_be_touched(tmp_path):
    """Outside of the project, links, read-only files, files that changed meanwhile: each with its reason."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir(), elsewhere.mkdir()
    text = "while True:\n    f().backward()\n    opt.step()\n"
    files = [elsewhere / "a.py", project / "link.py", project / "locked.py", project / "new.py"]
    for file in files:
        if file.name != "link.py":
            file.write_text(text)
    (project / "link.py").symlink_to(elsewhere / "a.py")
    (project / "locked.py").chmod(0o444)
    os.utime(project / "new.py", (time.time() + 60,) * 2)
    found = [
        Finding("missing-zero-grad", "error", place(file, text, "opt.step()"), "") for file in files
    ]
    record = CheckRecord(found, files=[str(file) for file in files])
    proposal = propose(record, project, time.time() + 1)
    assert (proposal.rewrites, proposal.fixed) == ([], [])
    ends = [" ".join(why.split()[1:4]) for why in proposal.refused]
    assert ends == ["is not below", "is not below", "is not writable", "was changed while"]


def test_writing(tmp_path):
    """A file is exchanged whole and keeps its permissions; one that changed meanwhile stays as it is."""
    file = tmp_path / "a.py"
    file.write_bytes(b"old")
    file.chmod(0o755)
    write(file, b"old", b"new")
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"new", 0o755)
    with pytest.raises(OSError, match="was changed meanwhile"):
        write(file, b"old", b"newer")
    assert file.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.py"]


def test_a_measurement_by_another_function_between_epochs(fixed):
    """Training goes back to its own mode in each epoch, not only once before them."""
    text = """\
def predictions(model, loader):
    for x, y in loader:
        yield model(x)

def train(net, loader, callbacks):
    net.train()
    for epoch in range(3):
        for x, y in loader:
            criterion(net(x), y).backward()
        for callback in callbacks:
            callback(net)
"""
    after = fixed("eval-in-train-mode", "model(x)", text, train="net(x)")
    assert after == text.replace(
        "    for x, y in loader:\n        yield",
        "    model.eval()\n    for x, y in loader:\n        yield",
    ).replace(
        "        for x, y in loader:\n            c",
        "        net.train()\n        for x, y in loader:\n            c",
    )


def test_an_epoch_in_a_function_of_its_own(fixed):
    """It is called for each epoch, so its beginning is where training goes on."""
    text = """\
def score(model, loader):
    return sum(model(x) for x, y in loader)

def train(net, loader):
    for x, y in loader:
        criterion(net(x), y).backward()
"""
    after = fixed("eval-in-train-mode", "model(x)", text, train="net(x)")
    assert after == text.replace("    return", "    model.eval()\n    return").replace(
        "    for x, y in loader:\n", "    net.train()\n    for x, y in loader:\n"
    )
