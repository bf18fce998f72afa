"""What runs in the training and in the validation of one step, or of one loop, is told apart."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from explainer.recorded import line, recorded_here, said, step


def layers():
    """A model whose mode matters, an optimizer, data."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, optimizer, torch.randn(48, 4), torch.randn(48, 1)


def error(model, x, y):
    """A loss that training and validation share."""
    out = model(x)
    loss = functional.mse_loss(out, y)
    return loss  # noqa: RET504  two statements to be told of


def test_a_function_that_training_and_validation_call():
    """Each call has its own sentences and numbers, and only one is the root."""
    held = []

    def train():
        model, optimizer, x, y = layers()
        for _ in range(2):
            model.train()
            loss = error(model, x[:32], y[:32])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model.eval()
            valid = error(model, x[32:], y[32:])
            held.append((loss.item(), valid.item()))

    seen = recorded_here(train, steps=2, timed=0)
    note = line(step(seen, 2), seen, "loss = functional.mse_loss(out, y)")
    first, second = note.parts
    calls = [
        seen.files[0].text.splitlines()[int(one.called_from.split(":")[1]) - 1]
        for one in note.parts
    ]
    assert [one.strip().partition(" = ")[0] for one in calls] == ["loss", "valid"]
    values = [[event.facts["value"] for event in one.events] for one in note.parts]
    assert values == [[held[1][0]], [held[1][1]]]
    assert any("where backward begins" in one for one in first.sentences)
    assert not any("backward begins" in one for one in second.sentences)
    assert [one for one in note.sentences if one.startswith("Called from line ")] == [
        f"Called from line {one.called_from.split(':')[1]}: {one.sentences[0]}"
        for one in note.parts
    ]
    modes = [part.sentences[0] for part in line(step(seen, 2), seen, "out = model(x)").parts]
    assert ["in train mode" in one for one in modes] == [True, False]
    assert ["in eval mode" in one for one in modes] == [False, True]
    words = next(row[2] for row in step(seen, 2).brief if row[0] == "loss")
    assert words.count("(from line ") == 2


def test_parts_leave_the_whole_as_it_is():
    """Numbers of a line are those of all its runs; parts of it are added to them, not taken from them."""

    def backward(loss):
        loss.backward()

    def train():
        model, optimizer, x, y = layers()
        for _ in range(1):
            optimizer.zero_grad()
            backward(functional.mse_loss(model(x), y))
            backward(functional.l1_loss(model(x), y))
            optimizer.step()

    seen = recorded_here(train, steps=1, timed=0)
    note = line(step(seen, 1), seen, "loss.backward()")
    assert [[grad.change for grad in one.effects.grads] for one in note.parts] == [
        ["written"],
        ["accumulated"],
    ]
    first, second = (one.effects.grads[0] for one in note.parts)
    assert (first.count, second.count) == (4, 4)
    assert second.before == first.after != second.after


def test_a_function_that_one_line_calls_is_one():
    """However often it does."""

    def train():
        model, optimizer, x, y = layers()
        for _ in range(1):
            optimizer.zero_grad()
            for part in range(3):
                error(model, x[part:], y[part:]).backward()
            optimizer.step()

    seen = recorded_here(train, steps=1, timed=0)
    assert line(step(seen, 1), seen, "out = model(x)").parts == []


def phases(model, optimizer, x, y, held, *, by_turn):
    """A loop that trains and validates by turns; its mode is set inside or around it."""

    def run(phase):
        for at in range(2):
            if by_turn:
                model.train(phase == "train")
            with torch.set_grad_enabled(phase == "train"):
                loss = functional.mse_loss(model(x[at::2]), y[at::2])
            if phase == "train":
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            held[phase].append(loss.item())

    for _ in range(8):
        for phase in ("train", "valid"):
            if not by_turn:
                model.train(phase == "train")
            run(phase)


@pytest.mark.parametrize("by_turn", [pytest.param(False, marks=pytest.mark.long), True])
def test_turns_of_one_loop_that_train_and_that_evaluate(by_turn):
    """They are two loops, each with its own turns, losses and times, wherever the mode is set."""
    held = {"train": [], "valid": []}
    plain = {"train": [], "valid": []}
    phases(*layers(), plain, by_turn=by_turn)
    prepared = layers()
    seen = recorded_here(
        lambda: phases(*prepared, held, by_turn=by_turn), steps=3, timed=4, whatifs=True
    )
    assert held == plain
    assert [one.name for one in seen.loops if one.kind != "plain"] == [
        "training loop in phases.run()", "evaluation loop in phases.run()"]  # fmt: skip
    for kind, phase in (("training", "train"), ("evaluation", "valid")):
        for number in (1, 2, 3):
            note = line(step(seen, number, kind), seen, "loss = functional.mse_loss")
            (value,) = [event.facts["value"] for event in note.events if event.kind == "loss"]
            assert value == held[phase][number - 1]
    assert [one.turns for one in seen.loops if one.kind != "plain"] == [16, 16]
    assert [one.recorded for one in seen.timings] == [False, False]
    assert not any("eval mode" in one for one in line(step(seen, 3), seen, "model(x[at").sentences)
    assert "half the learning rate" in [one.name for one in step(seen, 2).whatifs]


def test_acting_without_learning_is_no_evaluation():
    """A policy that acts in each turn and learns in some has one loop; so has a training in eval mode."""

    def acts():
        model, optimizer, x, y = layers()
        for turn in range(12):
            model.eval()
            with torch.no_grad():
                model(x)
            model.train()
            if turn % 3 == 2:
                optimizer.zero_grad()
                functional.mse_loss(model(x), y).backward()
                optimizer.step()

    def tunes():
        model, optimizer, x, y = layers()
        model.eval()
        for turn in range(12):
            loss = functional.mse_loss(model(x), y)
            if turn % 3 == 2:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    for train in (acts, tunes):
        seen = recorded_here(train, steps=3, timed=2)
        assert [one.kind for one in seen.loops] == ["training"], train
        assert seen.loops[0].turns == 12


class Average:
    """Follows a model's weights, and is never called itself."""

    def __init__(self, model):
        self.model = copy.deepcopy(model)

    def update(self, model):
        """By half."""
        with torch.no_grad():
            for mean, now in zip(self.model.parameters(), model.parameters(), strict=True):
                mean.lerp_(now, 0.5)


class Trainer:
    """Holds everything in attributes."""

    def __init__(self):
        self.model, self.optimizer, self.x, self.y = layers()
        self.average = Average(self.model)
        self.moved = []

    def train(self):
        """Two steps, and a look at the average."""
        for _ in range(2):
            self.optimizer.zero_grad()
            functional.mse_loss(self.model(self.x), self.y).backward()
            self.optimizer.step()
            before = [p.detach().clone() for p in self.average.model.parameters()]
            self.average.update(self.model)
            after = [p.detach() for p in self.average.model.parameters()]
            self.moved.append(
                sum(float((a - b).square().sum()) for a, b in zip(after, before, strict=True))
                ** 0.5
            )
        return self.average.model(self.x)


def test_a_model_in_an_attribute_of_an_attribute():
    """It is watched before it is called, and has its whole name."""
    trainer = Trainer()
    seen = recorded_here(trainer.train, steps=2, timed=0)
    assert [one.name for one in seen.models] == ["self.model", "self.average.model"]
    told = line(step(seen, 2), seen, "mean.lerp_(now, 0.5)").sentences[0]
    wanted = f"All 4 parameters move without an optimizer by ‖Δp‖ = {trainer.moved[1]:.4g} "
    assert told.startswith(wanted)
    assert "`self.average.model." in told
    assert any("`self.average.model` in train mode" in one for one in said(seen))


@pytest.mark.parametrize("kind", ["forward", "evaluation"])
def test_a_loop_that_only_calls_models(kind):
    """A policy in train mode that collects an episode evaluates nothing; without gradients it may."""
    model, optimizer, x, y = layers()

    def collects_and_learns():
        for _ in range(3):
            for at in range(4):
                with torch.set_grad_enabled(kind == "forward"):
                    model(x[at])
            optimizer.zero_grad()
            functional.mse_loss(model(x), y).backward()
            optimizer.step()

    def played():
        for _ in range(2):
            for at in range(4):
                with torch.set_grad_enabled(kind == "forward"):
                    model(x[at])
            collects_and_learns()

    names = {one.kind: one.name for one in recorded_here(played, steps=2, timed=0).loops}
    expected = {"forward": "loop of forward passes", "evaluation": "evaluation loop"}
    assert names[kind].startswith(f"{expected[kind]} in ")
