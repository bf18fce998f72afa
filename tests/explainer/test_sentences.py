"""Sentences about steps of unusual shapes, each against what plain torch says."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from explainer.recorded import line, recorded_here, said, step
from loopwright.report.explain_html import data
from loopwright.report.explain_terminal import render


def layers():
    """A seeded model and a batch."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), torch.randn(8, 4)


def test_numbers_clipped_one_by_one():
    """``clip_grad_value_`` multiplies nothing: the numbers beyond the limit are counted."""
    beyond = []

    def train():
        model, x = layers()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for limit in (0.05, 9.0):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            grads = [p.grad.clone() for p in model.parameters()]
            beyond.append(sum(int((one.abs() > limit).sum()) for one in grads))
            torch.nn.utils.clip_grad_value_(model.parameters(), limit)
            optimizer.step()

    seen = recorded_here(train, steps=2, timed=0)
    first, second = (line(step(seen, at), seen, "clip_grad_value_").sentences for at in (1, 2))
    assert 0 < beyond[0] < 23
    assert first[0] == (
        f"{beyond[0]} of the gradients' 23 numbers lie beyond ±0.05, and are set to that."
    )
    assert beyond[1] == 0
    assert second == ["None of the gradients' 23 numbers lies beyond ±9: nothing is changed."]


def test_a_ranks_share():
    """A ``DistributedSampler`` gives one rank's share, in whatever order: no word about all samples of it."""

    def train():
        model, x = layers()
        data = TensorDataset(x, x[:, :2])
        sampler = DistributedSampler(data, num_replicas=2, rank=1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for inputs, wanted in DataLoader(data, batch_size=2, sampler=sampler):
            optimizer.zero_grad()
            F.mse_loss(model(inputs), wanted).backward()
            optimizer.step()

    seen = recorded_here(train, steps=2, timed=0)
    told = line(step(seen, 1), seen, "DataLoader(data").sentences
    assert "A pass over this rank's share of 8 samples begins: 2 batches of 2." in told


class Followed(nn.Module):
    """A model of the program's own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x):
        """Two statements make the nodes."""
        hidden = torch.tanh(self.first(x))
        return self.second(hidden)


def nodes_under(tensor):
    """Nodes of a graph that are no leaves."""
    pending, seen = [tensor.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is not None and node not in seen and not hasattr(node, "variable"):
            seen.add(node)
            pending += [below for below, _ in node.next_functions]
    return len(seen)


def test_nodes_of_a_forward_that_is_followed():
    """All nodes of the call remember how its result was computed, whichever statement made them."""
    made = []

    def train():
        torch.manual_seed(0)
        model, x = Followed(), torch.randn(8, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            output = model(x)
            made.append(nodes_under(output))
            output.square().mean().backward()
            optimizer.step()

    seen = recorded_here(train, steps=2, timed=0)
    told = line(step(seen, 2), seen, "output = model(x)").sentences
    assert f"{made[1]} graph nodes remember how it was computed." in told
    (here,) = (one["here"] for one in seen.glossary if one["name"] == "forward")
    assert f"leaves {made[1]} nodes" in here


def test_a_loss_that_is_added_up():
    """The variable is the sum, and not what the last call gave; only what backward begins at is the root."""
    values = []

    def train():
        model, x = layers()
        target = torch.randint(0, 2, (8,))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            loss = 0
            for part in range(5):
                loss += F.cross_entropy(model(x * (part + 1)), target)
            other = F.mse_loss(model(x), x[:, :2])
            total = loss + other
            values.append(float(loss.detach()))
            total.backward()
            optimizer.step()

    seen = recorded_here(train, steps=2, timed=0)
    told = line(step(seen, 2), seen, "loss += F.cross_entropy").sentences
    assert not [one for one in told if one.startswith("`loss` = ")]
    assert f"`loss` is {values[1]:.4g} by then; it is still a tensor" in " ".join(told)
    assert "And 2 more like that." in told
    assert "root of the graph" not in " ".join(told)
    told = line(step(seen, 2), seen, "other = F.mse_loss").sentences
    assert (
        told[-1]
        == "It is still a tensor, because it remembers how it was computed (`MseLossBackward0`)."
    )
    told = line(step(seen, 2), seen, "total = loss + other").sentences
    assert told[-1].endswith("so its `.grad` stays `None`; backward begins there.")


def test_gradients_cleared_in_a_closure():
    """LBFGS has used what its closure clears, though no step has ended."""

    def train():
        model, x = layers()
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

        def closure():
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        for _ in range(2):
            optimizer.step(closure)

    seen = recorded_here(train, steps=2, timed=0)
    told = line(step(seen, 2), seen, "optimizer.zero_grad()").sentences
    assert told
    assert all(
        one.endswith("and the step that calls this has used it.") or "more" in one for one in told
    )
    assert "unused" not in " ".join(row[2] for row in step(seen, 2).brief)


def twice(point):
    """Of a leaf that no variable holds when it returns."""
    return (point * 2).sum()


def test_gradients_that_cancel_out():
    """1 and -1 are 0: that was added, and nobody has cleared it; a leaf is no parameter."""

    def train():
        model, x = layers()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            model(x).mean().backward()
            model(x).mean().mul(-1).backward()
            twice(torch.ones(3, requires_grad=True)).backward()
            optimizer.step()

    seen = recorded_here(train, steps=2, timed=0)
    told = line(step(seen, 2), seen, "mul(-1)").sentences
    assert not [one for one in told if "0 again" in one]
    assert [one for one in told if "**added** to what was there" in one and one.endswith("→ 0.")]
    assert not [one for one in said(seen) if "the only parameter" in one]
    assert [
        one for one in said(seen) if "`.grad` of a leaf that no variable names: `None` →" in one
    ]


def test_parameters_of_autograd_grad():
    """What gradients are asked of is watched: a descent by hand moves it."""

    def train():
        torch.manual_seed(0)
        weight, bias = torch.randn(4, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
        x = torch.randn(8, 4)
        for _ in range(2):
            loss = (x @ weight + bias).square().mean()
            first, second = torch.autograd.grad(loss, [weight, bias])
            with torch.no_grad():
                weight -= 0.1 * first
                bias -= 0.1 * second

    seen = recorded_here(train, steps=2, timed=0)
    told = line(step(seen, 2), seen, "weight -= 0.1 * first").sentences
    assert [one for one in told if "without an optimizer" in one], told


def test_lone_leaves_that_move_one_by_one():
    """They belong to nothing, and are as many as moved."""

    def train():
        torch.manual_seed(0)
        leaves = [torch.randn(9, requires_grad=True) for _ in range(3)]
        for _ in range(2):
            loss = sum(one.square().sum() for one in leaves)
            grads = torch.autograd.grad(loss, leaves)
            with torch.no_grad():
                for leaf, grad in zip(leaves, grads, strict=True):
                    leaf -= 0.1 * grad

    seen = recorded_here(train, steps=2, timed=0)
    told = line(step(seen, 2), seen, "leaf -= 0.1 * grad").sentences
    assert told[0].startswith("All 3 parameters move without an optimizer by ‖Δp‖ = ")


def test_a_tensor_of_one_number():
    """It is called so, and not "a 1 tensor"."""

    def train():
        model, x = layers()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            model(x).mean().backward()
            optimizer.step()
            x[:1, 0].clone().item()

    seen = recorded_here(train, steps=2, timed=0)
    told = line(step(seen, 2), seen, ".item()")
    assert told.sentences[0].startswith("A tensor of one number becomes a plain Python number")


class Average:
    """Follows a model's weights from afar."""

    def __init__(self, model):
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        """One parameter after the other."""
        for mean, now in zip(self.model.parameters(), model.parameters(), strict=True):
            mean.lerp_(now, 0.1)


def test_an_average_of_the_weights():
    """Its parameters move one by one, and that is one sentence; what is asked of the step goes without it."""
    moved = []

    def train():
        model, x = layers()
        average = Average(model)
        average.model(x)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            before = [p.clone() for p in average.model.parameters()]
            average.update(model)
            after = average.model.parameters()
            moved.append(
                sum(float((a - b).square().sum()) for a, b in zip(after, before, strict=True))
            )

    seen = recorded_here(train, steps=2, timed=0, whatifs=True)
    told, *more = line(step(seen, 2), seen, "mean.lerp_(now, 0.1)").sentences
    assert not [one for one in more if "move" in one]
    assert told.startswith(
        f"All 4 parameters move without an optimizer by ‖Δp‖ = {moved[1] ** 0.5:.4g}"
    )
    asked = [one.name for one in step(seen, 2).whatifs]
    assert "half the learning rate" in asked, step(seen, 2).not_replayed


def test_a_loop_that_begins_to_train_late():
    """Turns that fill a buffer are no steps: those after the first step are recorded, timed and shown."""

    def train():
        model, x = layers()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        held = []
        for _ in range(30):
            with torch.no_grad():
                held.append(model(x))
            if len(held) <= 12:
                continue
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    seen = recorded_here(train, steps=3, timed=5)
    stepping = [one.number for one in seen.steps if any("step" in row.phases for row in one.lines)]
    assert stepping == [14, 15, 16]
    (timing,) = seen.timings
    assert timing.turns == 5
    assert {"forward", "backward", "step"} <= set(timing.phases)
    assert ", step 15\n" in render(seen)
    shown = data(seen, 0, None)["loops"][0]
    assert (shown["first"], shown["steps"]) == (15, [1, 2, 3, 14, 15, 16])


class Dropping(torch.nn.Module):
    """A model with a forward of its own, which is followed statement by statement."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x):
        """Draws a mask in train mode."""
        x = self.drop(x)
        return self.layer(x)


def test_turns_that_are_not_recorded_say_nothing_around():
    """What modes and generators do in them is not told of the line that calls the training."""

    def everything():
        model, x = Dropping(), torch.ones(8, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(6):
            model.train()
            for _ in range(4):
                optimizer.zero_grad()
                model(x).square().mean().backward()
                optimizer.step()
            model.eval()
            model(x)

    def train():
        everything()

    seen = recorded_here(train, steps=2, timed=1)
    assert [one for one in said(seen) if "model.eval()" in one and "go to eval mode" in one]
    assert [one for one in said(seen) if one.startswith("x = self.drop(x) | It draws")]
    assert [one for one in said(seen) if one.startswith("everything() |")] == []


def test_a_model_that_one_line_calls_twice():
    """It is said once, with how often; a loss's own words are of its last run."""

    def train():
        model, x = layers()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(1):
            optimizer.zero_grad()
            loss = 0.0
            for part in range(3):
                loss = loss + torch.nn.functional.l1_loss(model(x) + model(x), x[:, :2] * part)
            loss.backward()
            optimizer.step()

    seen = recorded_here(train, steps=1, timed=0)
    told = line(step(seen, 1), seen, "loss = loss + torch").sentences
    assert told[0].endswith(" modules, 6 times.")
    (at,) = [index for index, one in enumerate(told) if "by then" in one]
    assert max(index for index, one in enumerate(told) if one.startswith("l1_loss of")) < at


def test_gradients_that_are_written_beside_others():
    """From ``None``, from 0, and of a leaf that is no parameter: each is said by itself."""

    def train():
        model, x = layers()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model[0].bias.grad = torch.zeros_like(model[0].bias)
        for _ in range(1):
            point = x.clone().requires_grad_()
            model(point).square().mean().backward()
            optimizer.step()

    seen = recorded_here(train, steps=1, timed=0)
    told = line(step(seen, 1), seen, ".backward()").sentences
    assert {one.partition(" →")[0] for one in told if one.startswith("`.grad` of")} == {
        "`.grad` of `point`: `None`", "`.grad` of 3 of 4 parameters: `None`",
        "`.grad` of `model.0.bias`: 0"}  # fmt: skip


def test_a_gradient_that_was_used_and_then_added_to():
    """As a generator's pass adds to the gradients of the discriminator."""

    def train():
        model, x = layers()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            model(x).abs().mean().backward()

    seen = recorded_here(train, steps=2, timed=0)
    (told,) = line(step(seen, 2), seen, "zero_grad").sentences
    assert told.endswith("the last step had used it before it was added to.")
    assert "unused" not in " ".join(row[2] for row in step(seen, 2).brief)


def test_the_curve_is_of_one_loss():
    """Where a step has several, or another one now and then, it is the first one's."""
    held = []

    def train():
        model, x = layers()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for turn in range(6):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            held.append(loss.item())
            loss.backward()
            if turn % 2:
                (100 * model(x).abs().mean()).backward()
            optimizer.step()

    seen = recorded_here(train, steps=2, timed=2)
    assert list(seen.losses.values()) == [held]
    assert len(step(seen, 2).losses) == 2


def test_a_rate_that_a_schedule_sets_when_it_is_made():
    """It is the optimizer's by its name; Adam's averages count as rates."""

    def train():
        model, x = layers()
        adam = torch.optim.Adam(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=0.1, total_steps=10)
        for _ in range(1):
            model(x).square().mean().backward()
            adam.step()
            schedule.step()

    told = [one for one in said(recorded_here(train, steps=1, timed=0)) if "OneCycleLR(" in one]
    assert sorted(one.partition(" | ")[2] for one in told) == [
        "`adam`: betas[0] 0.9 → 0.95.", "`adam`: lr 0.1 → 0.004."]  # fmt: skip


def test_gradients_of_a_function():
    """``torch.func.grad`` has the backward phase, with the loss; inside ``vmap`` no loss can be read."""
    held = []

    def loss_of(weight, x):
        return (x @ weight).square().mean()

    def train():
        torch.manual_seed(0)
        weight, x = torch.randn(3), torch.randn(8, 3)
        for _ in range(3):
            held.append(loss_of(weight, x).item())
            grad, _ = torch.func.grad_and_value(loss_of)(weight, x)
            weight = weight - 0.1 * grad
            torch.func.vmap(torch.func.grad(loss_of), in_dims=(None, 0))(weight, x)

    seen = recorded_here(train, steps=2, timed=0)
    note = line(step(seen, 2, "gradients"), seen, "grad, _ = torch.func")
    assert note.phases == ["backward"]
    assert note.sentences[0] == (
        f"Gradients of the loss {held[1]:.4g} for 1 tensor are returned; no `.grad` is written."
    )
    assert seen.losses["0"] == held
    (mapped,) = line(step(seen, 2, "gradients"), seen, "torch.func.vmap").events
    assert (mapped.kind, mapped.facts["at_once"], mapped.facts["value"]) == ("grad", 8, None)


def test_a_scaler_that_is_off():
    """It multiplies by nothing, and that is said."""

    def train():
        model, x = layers()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        for _ in range(1):
            scaler.scale(model(x).square().mean()).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)

    told = said(recorded_here(train, steps=1, timed=0))
    assert any(one.endswith("| The scaler is off: the loss stays as it is.") for one in told)
    assert any(one.endswith("| The gradients stay as they are.") for one in told)


def test_a_group_that_comes_later():
    """The line that thaws a layer says what the optimizer is given, and with which settings."""

    def train():
        model, x = layers()
        for one in model[0].parameters():
            one.requires_grad_(False)
        optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1, momentum=0.9)
        for turn in range(3):
            if turn == 1:
                for one in model[0].parameters():
                    one.requires_grad_(True)
                optimizer.add_param_group({"params": model[0].parameters(), "lr": 0.01})
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    seen = recorded_here(train, steps=3, timed=0)
    (told,) = line(step(seen, 2), seen, "add_param_group").sentences
    assert told == (
        "`optimizer` is given a group of 2 parameters, 15 numbers (lr 0.01, momentum 0.9): "
        "from now on it updates 4 tensors in 2 groups."
    )
    made = next(one for one in seen.setup if "SGD(" in seen_line(seen, one))
    assert not any("is given a group" in one for one in made.sentences)
    moved = line(step(seen, 2), seen, "optimizer.step()").sentences
    assert any("All 4 parameters move" in one for one in moved)


def seen_line(seen, note):
    """Its first source line."""
    return seen.files[note.file].text.splitlines()[note.line - 1]


def test_one_parameter_moves():
    """Words agree with how many there are; a list made of a loader's batches gives them no names."""

    def train():
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.ones(40))
        spare = torch.nn.Parameter(torch.ones(4))
        first = torch.optim.SGD([weight], lr=0.1)
        second = torch.optim.SGD([spare, torch.nn.Parameter(torch.ones(5))], lr=0.1)
        loader = DataLoader(TensorDataset(torch.randn(12, 40)), batch_size=4)
        for _ in range(2):
            losses = [(weight * x).square().mean() + spare.sum() for (x,) in loader]
            sum(losses).backward()
            first.step()
            second.step()

    seen = recorded_here(train, steps=2, timed=0)
    first = step(seen, 1)
    assert any(
        one.startswith("The only parameter moves by")
        for one in line(first, seen, "first.step").sentences
    )
    assert (
        "1 of 2 parameters has no `.grad` and is left alone."
        in line(first, seen, "second.step").sentences
    )
    batch = [one for one in line(first, seen, "losses = ").sentences if "next batch" in one]
    assert batch[0].startswith("The next batch: 4×40 float32; ")


def test_a_group_that_came_after_the_step():
    """The step is run again with the groups that it began with."""

    def train():
        model, x = layers()
        optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
        for turn in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            if turn == 1:
                optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(3))]})

    second = step(recorded_here(train, steps=3, timed=0, whatifs=True), 2)
    assert "half the learning rate" in {one.name for one in second.whatifs}, second.not_replayed
