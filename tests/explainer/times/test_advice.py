"""What would make a step faster: what is tried gives the same results, gains are what the numbers say."""

from __future__ import annotations

import ast
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Subset, TensorDataset

from explainer.recorded import recorded_here
from loopwright.events.explained import TimingNote
from loopwright.explainer.follow.turns import LoopRecord
from loopwright.explainer.times import advice, tries
from loopwright.report import explain_html, explain_json, explain_terminal

SECONDS = (0.010, 0.002)
"""What every comparison of these tests says."""


@pytest.fixture
def compared(monkeypatch):
    """Comparisons run both ways once and say ``SECONDS``; what they compared is listed."""
    seen = []

    def stand_in(now, other):
        seen.append((now(), other()))
        return (*SECONDS, True)

    monkeypatch.setattr(tries, "compare", stand_in)
    return seen


def at(record, line):
    """The text of a line."""
    return record.files[0].text.splitlines()[line - 1].strip()


def timing(record):
    """Of the loop that trains."""
    return next(one for one in record.timings if record.loops[one.loop].kind == "training")


# what is tried


@pytest.mark.parametrize("way", ["fused", "foreach"])
@pytest.mark.parametrize("kind", ["Adam", "AdamW", "SGD", "Adagrad"])
def test_both_ways_of_an_optimizer_give_the_same_step(kind, way, monkeypatch):
    """Copies after a step of each way are close; the program's parameters and state are untouched."""
    made = []
    original = tries._stepper

    def keep(cls, groups, chosen, changed):
        run = original(cls, groups, chosen, changed)
        made.append((run.__closure__, run, changed))
        return run

    monkeypatch.setattr(tries, "_stepper", keep)
    monkeypatch.setattr(tries, "compare", lambda now, other: (now(), other(), 1.0, 1.0, False)[2:])
    model = nn.Linear(5, 3)
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.1, weight_decay=0.01)
    model(torch.ones(2, 5)).sum().backward()
    before = [p.detach().clone() for p in model.parameters()]
    grads = [p.grad.clone() for p in model.parameters()]
    assert tries.step(optimizer, 1 << 20) is None
    assert all(not state or float(state["step"]) == 0 for state in optimizer.state.values())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(torch.equal(a, p.grad) for a, p in zip(grads, model.parameters(), strict=True))
    plain, changed = next(
        (made[i], made[i + 1]) for i in range(0, len(made), 2) if made[i + 1][2][way]
    )
    moved = []
    for closure, _, _ in (plain, changed):
        (used,) = [
            c.cell_contents for c in closure if isinstance(c.cell_contents, torch.optim.Optimizer)
        ]
        moved.append([p.detach() for group in used.param_groups for p in group["params"]])
    for a, b, start in zip(*moved, before, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
        assert not torch.equal(a, start)


def test_no_hook_of_the_program_hears_of_it(compared):
    """Step hooks, global ones too, are called by the program's own steps alone."""
    heard = []
    handle = register_optimizer_step_pre_hook(lambda *_: heard.append(1))
    try:
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        assert tries.step(optimizer, 1 << 20).faster
    finally:
        handle.remove()
    assert heard == []
    assert len(compared) == 2


@pytest.mark.parametrize(
    "settings", [{"fused": True}, {"capturable": False, "differentiable": True}]
)
def test_what_is_fast_or_special_already_is_left_alone(settings):
    """Nothing is tried for it."""
    optimizer = torch.optim.Adam(nn.Linear(2, 1).parameters(), **settings)
    assert tries.step(optimizer, 1 << 20) is None


def test_beyond_the_budget_some_parameters_are_tried(compared):
    """Seconds are scaled to all numbers, and the share is known."""
    parameters = [torch.zeros(100, requires_grad=True) for _ in range(40)]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    whole = tries.step(optimizer, 1 << 20)
    some = tries.step(optimizer, 8 * 400 * 10)
    assert whole.share == 1
    assert some.share == 0.25
    assert some.before == pytest.approx(4 * whole.before)


@pytest.mark.parametrize("subset", [False, True])
def test_a_batch_taken_at_once_is_the_same_batch(subset, compared):
    """Compared before it is timed; the advised loader gives the program's batches in the program's order."""
    data = TensorDataset(torch.randn(50, 3), torch.arange(50))
    dataset = Subset(data, list(range(40, 3, -1))) if subset else data
    assert tries.fetching(dataset, 8).faster
    torch.manual_seed(3)
    plain = list(DataLoader(dataset, batch_size=8, shuffle=True))
    torch.manual_seed(3)
    sampler = BatchSampler(RandomSampler(dataset), 8, drop_last=False)
    advised = list(DataLoader(dataset, batch_size=None, sampler=sampler))
    assert len(plain) == len(advised)
    for one, other in zip(plain, advised, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_comparing(monkeypatch):
    """Faster is what is faster beyond chance; the same thing against itself is not."""
    now = SimpleNamespace(at=0.0)
    monkeypatch.setattr(tries, "time", SimpleNamespace(perf_counter=lambda: now.at))
    noise = iter([0.0, 0.3, -0.2, 0.1] * 40)

    def takes(seconds):
        def run():
            now.at += seconds + next(noise)

        return run

    before, after, faster = tries.compare(takes(4.0), takes(1.0))
    assert (round(before), round(after), faster) == (4, 1, True)
    assert tries.compare(takes(4.0), takes(4.0))[2] is False
    assert tries.compare(takes(1.0), takes(4.0))[2] is False


# what is advised


def train_in_memory():
    """One thing of each kind that can be better on a CPU."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW([torch.ones(1)], lr=0.5)  # another one, of the same name
    data = TensorDataset(torch.randint(0, 255, (160, 6), dtype=torch.uint8), torch.randn(160, 1))
    loader = DataLoader(data, batch_size=8, shuffle=True)
    model = nn.Linear(6, 1)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=0.01,
    )
    for x, y in loader:
        optimizer.zero_grad(set_to_none=False)
        target = model(x.float())
        loss = nn.functional.mse_loss(target, y)
        loss.backward()
        optimizer.step()
        print(loss.item())


@pytest.fixture(scope="module")
def seen():
    """The record of that training, in which every try says ``SECONDS``."""
    patch = pytest.MonkeyPatch()
    patch.setattr(tries, "compare", lambda now, other: (now(), other(), *SECONDS, True)[2:])
    patch.setattr(advice, "LEAST", 0.0)
    patch.setattr("builtins.print", lambda *_: None)
    try:
        return recorded_here(train_in_memory, steps=2, timed=8)
    finally:
        patch.undo()


def test_each_stands_at_its_line(seen):
    """The optimizer where it is made, the loader at the loop's head, the others where they happen."""
    found = {one.title: one for one in timing(seen).advice}
    lines = {title: at(seen, one.line) for title, one in found.items()}
    assert lines == {
        "Let `optimizer` update all parameters in one kernel": "optimizer = torch.optim.AdamW(",
        "Let gradients go instead of setting them to 0": "optimizer.zero_grad(set_to_none=False)",
        "Take a batch out of the data set at once": "for x, y in loader:",
        "Bring the data to float32 once, before the loop": "target = model(x.float())",
        "Call `print` every 50 steps instead of in each": "print(loss.item())",
    }  # fmt: skip
    code = found["Let `optimizer` update all parameters in one kernel"].code
    assert code == "torch.optim.AdamW( model.parameters(), lr=0.01, fused=True)"


def test_made_inside_another_call():
    """The argument is the optimizer's, not that of a function which it is given to."""
    text = "größe, opt = prepare(model, Adam(model.parameters()), loader)"
    (node,) = ast.parse(text).body
    inside, around = text.index("Adam"), text.index("prepare")
    assert ast.unparse(advice._call_at(node, text, [(1, inside + 1)])) == "Adam(model.parameters())"
    assert advice._call_at(node, text, [(1, around + 1)]).func.id == "prepare"
    assert advice._call_at(node, text, []) is None


def test_gains_are_what_the_numbers_say(seen):
    """Measured: what was saved, at most what it takes now; computed: from where the step's time goes."""
    note = timing(seen)
    found = {one.title.split()[0]: one for one in note.advice}
    saved = SECONDS[0] - SECONDS[1]
    assert found["Take"].gain == pytest.approx(min(saved, note.phases["fetch"]) / note.seconds)
    optimizer = next(one for one in note.advice if "one kernel" in one.title)
    assert optimizer.gain == pytest.approx(min(saved, note.phases["step"]) / note.seconds)
    assert {one.how for one in note.advice if "kernel" in one.title or "Take" in one.title} == {
        "measured"
    }
    line = f"0:{found['Call'].line}"
    assert found["Call"].gain == pytest.approx(note.lines[line] * 0.98 / note.seconds)
    assert found["Bring"].gain == pytest.approx(note.phases["transfer"] / note.seconds)
    assert (found["Call"].how, found["Bring"].how) == ("computed", "computed")
    gains = [one.gain for one in note.advice]
    assert gains == sorted(gains, reverse=True)


def test_it_stands_everywhere(seen):
    """Page, terminal and JSON: the gain, how it is known, the line, the code."""
    first = timing(seen).advice[0]
    html, text = explain_html.render(seen), explain_terminal.render(seen)
    assert f"−{first.gain * 100:.0f}" in html.replace("\xa0", " ")
    assert f'<span class="tag">{first.how}</span>' in html
    assert "What would make it faster" in text
    assert f"({first.how}, line {first.line})" in text
    assert '"advice": [' in explain_json.render(seen)
    assert all(len(line) <= 100 for line in text.splitlines())


def test_no_gain_no_word(compared, monkeypatch):
    """What chance explains is not said, nor what gains less than 2 %, nor anything of steps not timed."""
    monkeypatch.setattr(tries, "compare", lambda now, other: (*SECONDS, False))
    quiet = recorded_here(train_in_memory, steps=2, timed=8)
    assert not [one for one in timing(quiet).advice if one.how == "measured"]
    assert all(one.gain >= advice.LEAST for one in timing(quiet).advice)
    short = recorded_here(train_in_memory, steps=30, timed=8)
    assert timing(short).recorded
    assert timing(short).advice == []


# computed ones


def findings(*, phases, waits=None, device=None, data=None, cpus=8, monkeypatch):
    """What is said of a step of one second with these phases."""
    monkeypatch.setattr(advice, "cpus", lambda: cpus)
    note = TimingNote(0, 5, 1.0, phases, waits=waits or {}, device=device or {})
    record = LoopRecord(None, None, "", 0, data=data)
    event = SimpleNamespace(kind="item", facts={"waited": 0.1, "name": "loss"}, line=3)
    statement = SimpleNamespace(line=3, source=SimpleNamespace(number=0), node=None)
    visit = SimpleNamespace(events=[event], statement=statement)
    turn = SimpleNamespace(record=record, mode="deep", everything=lambda: [visit], inner=[])
    recording = SimpleNamespace(kept=[turn], sources=[], setup=[])
    return advice.Findings(note, record, recording, [])


@pytest.mark.parametrize(
    ("workers", "cpus", "gain"),
    # 0.6 s alone, 0.4 s of step: four processes hide it; two leave 0.3 s, hidden too; one is no use here.
    [(0, 8, 0.6), (0, 3, 0.6), (0, 2, 0.4), (0, 1, None), (4, 8, None)],
)
def test_workers_are_computed(workers, cpus, gain, monkeypatch):
    """As many as there are processors, while the step runs; without processors nothing is said."""
    data = tries.Data(None, 8, workers, True, "RandomSampler", False, None)
    told = list(
        findings(phases={"fetch": 0.6}, data=data, cpus=cpus, monkeypatch=monkeypatch).data()
    )
    assert [one.gain for one in told] == ([] if gain is None else [pytest.approx(gain)])
    assert all(one.how == "computed" for one in told)


def test_reading_is_bounded_by_the_device(monkeypatch):
    """Without the wait a step takes what the device needs, or what the host has to do."""
    waits = {"item": [0.5, 0.01]}
    (bound,) = findings(phases={}, waits=waits, device={"forward": 0.8, "item": 0.5},
                        monkeypatch=monkeypatch).reading()  # fmt: skip
    assert bound.gain == pytest.approx(0.2)
    (free,) = findings(
        phases={}, waits=waits, device={"forward": 0.1}, monkeypatch=monkeypatch
    ).reading()
    assert free.gain == pytest.approx(0.5)
    assert free.code == "total += loss.detach()"
    assert list(findings(phases={}, monkeypatch=monkeypatch).reading()) == []


def train_after_a_step():
    """A step outside of any loop, then an optimizer, its loop, and one of the same name."""
    alone = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([alone], lr=0.5)
    alone.sum().backward()
    optimizer.step()
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
    for _ in range(12):
        optimizer.zero_grad()
        model(torch.ones(2, 6)).sum().backward()
        optimizer.step()
    trained = optimizer
    optimizer = torch.optim.SGD([torch.ones(1)], lr=0.25)
    return trained, optimizer


def test_an_optimizer_made_between_two_steps(monkeypatch):
    """What is made there is a part of the program's own turn, and is found there."""
    monkeypatch.setattr(tries, "compare", lambda now, other: (now(), other(), *SECONDS, True)[2:])
    monkeypatch.setattr(advice, "LEAST", 0.0)
    seen = recorded_here(train_after_a_step, steps=2, timed=8)
    every = [one for timing in seen.timings for one in timing.advice]
    codes = [one.code for one in every if "all parameters in one kernel" in one.title]
    assert "torch.optim.SGD(model.parameters(), lr=0.125, fused=True)" in codes
