"""The update of one weight, written out: what the rule gives is what torch does, for every setting."""

from __future__ import annotations

import re

import pytest
import torch

from loopwright.explainer.effects import rule

SETTINGS = [
    (torch.optim.SGD, {}),
    (torch.optim.SGD, {"momentum": 0.9}),
    (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (torch.optim.SGD, {"maximize": True, "weight_decay": 0.1}),
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"weight_decay": 0.1, "amsgrad": True}),
    (torch.optim.Adam, {"betas": (0.5, 0.9), "eps": 1e-3, "maximize": True}),
    (torch.optim.AdamW, {"weight_decay": 0.3}),
    (torch.optim.AdamW, {"weight_decay": 0.0, "amsgrad": True}),
]


def updates(kind, options, dtype=torch.float32, steps=4):
    """The written rule of each step, and the weight before and after."""
    torch.manual_seed(3)
    net = torch.nn.Linear(5, 4, dtype=dtype)
    optimizer = kind(net.parameters(), lr=0.05, **options)
    found, chosen = [], None
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(8, 5, dtype=dtype)).square().mean().backward()
        chosen = chosen or rule.choose(optimizer)
        rule.before_step(optimizer, chosen)
        before = chosen.parameter().detach().flatten()[chosen.index].item()
        optimizer.step()
        after = chosen.parameter().detach().flatten()[chosen.index].item()
        found.append((rule.after_step(optimizer, chosen, "optimizer", "weight"), before, after))
    return found


@pytest.mark.parametrize(("kind", "options"), SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rule_is_torchs(kind, options, dtype):
    """Computed by hand in float64, the weight ends where torch puts it, to a few roundings of its dtype."""
    for note, before, after in updates(kind, options, dtype):
        assert note.agrees
        assert note.before == before
        assert note.after == after
        eps = torch.finfo(dtype).eps
        assert abs(note.computed - after) <= 16 * eps * max(abs(before), abs(before - after), 1e-3)
        assert len(note.steps) == len(note.symbols)


def test_the_sentence_is_arithmetic():
    """The last line's numbers, put together again, give its result."""
    for note, before, after in updates(torch.optim.SGD, {}):
        found = re.fullmatch(r"w ← (\S+) ([−+]) (\S+) · (\S+) = (\S+)", note.steps[-1])
        w, sign, lr, grad, result = found.groups()
        computed = float(w) + (-1 if sign == "−" else 1) * float(lr) * float(grad)
        assert computed == pytest.approx(float(result), abs=abs(before - after) / 50)
        assert float(result) == pytest.approx(after, abs=abs(before - after) / 50)
        assert float(lr) == 0.05


@pytest.mark.parametrize(("kind", "options"), SETTINGS)
def test_every_line_gives_its_own_result(kind, options):
    """Whoever puts the shown numbers together again gets the shown result, to its last digit."""
    off = []
    for note, _, _ in updates(kind, options, steps=12):
        for line in note.steps:
            found = re.fullmatch(r"\S+ (?:←|=) (.*) = (\S+)", line)
            if found is None or "(t =" in line:
                continue
            sums, result = found.groups()
            plain = sums.replace("·", "*").replace("−", "-").replace("²", "**2")
            digits = len(result.partition("e")[0].partition(".")[2])
            mantissa = 10.0 ** float(result.partition("e")[2] or 0)
            off += [line] * (abs(eval(plain) - float(result)) > 0.51 * mantissa * 10.0**-digits)
    assert off == []


@pytest.mark.parametrize("scale", [1e200, float("inf"), float("nan")])
def test_a_gradient_that_explodes_is_written_out(scale):
    """Its square is no number any more, and nothing fails for it."""
    net = torch.nn.Linear(2, 1, dtype=torch.float64)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 2, dtype=torch.float64)).sum().backward()
    chosen = rule.choose(optimizer)
    net.weight.grad.mul_(scale)
    rule.before_step(optimizer, chosen)
    optimizer.step()
    assert len(rule.after_step(optimizer, chosen, "optimizer", "weight").steps) == 4


def test_a_wrong_rule_is_not_agreed_with():
    """Control: a step that does something else is told to be something else."""

    class Odd(torch.optim.SGD):
        pass

    Odd.__name__ = "SGD"
    Odd.__module__ = "torch.optim.sgd"
    net = torch.nn.Linear(2, 1)
    optimizer = Odd(net.parameters(), lr=0.1)
    net(torch.ones(1, 2)).sum().backward()
    chosen = rule.choose(optimizer)
    rule.before_step(optimizer, chosen)
    with torch.no_grad():
        chosen.parameter().add_(1.0)
    assert not rule.after_step(optimizer, chosen, "o", "w").agrees


def test_only_rules_that_are_known():
    """An optimizer whose rule is not written here, or without a gradient, gives none."""
    net = torch.nn.Linear(2, 1)
    assert rule.choose(torch.optim.SGD(net.parameters(), lr=0.1)) is None
    net(torch.ones(1, 2)).sum().backward()
    assert rule.choose(torch.optim.RMSprop(net.parameters(), lr=0.1)) is None
