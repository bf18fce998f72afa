"""Every number of an explanation, against the same training computed by itself."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from explainer.recorded import line, record, step

PROGRAM = """\
import torch
from torch import nn
torch.manual_seed(0)
X = torch.randn(96, 6)
Y = (X.sum(1) > 0).long()
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.25), nn.Linear(8, 2))
criterion = nn.CrossEntropyLoss()
optimizer = OPTIMIZER
for epoch in range(2):
    for data, labels in loader:
        optimizer.zero_grad()
        target = model(data)
        loss = criterion(target, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        total = loss.item()
"""
OPTIMIZERS = {
    "sgd": "torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)",
    "adamw": "torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)",
}


def norm(tensors):
    """Of all of them together, in float64."""
    return math.sqrt(sum(one.double().square().sum().item() for one in tensors))


def plain(optimizer):
    """The same training by hand: what happened in each step."""
    space = {}
    setup, _, _ = PROGRAM.replace("OPTIMIZER", optimizer).partition("for epoch")
    exec(setup, space)
    model, optimizer = space["model"], space["optimizer"]
    found = []
    for _ in range(2):
        for data, labels in space["loader"]:
            had = [p.grad for p in model.parameters() if p.grad is not None]
            one = {"had": norm(had) if had else None, "data": data}
            optimizer.zero_grad()
            state = torch.get_rng_state()
            start = {key: value.clone() for key, value in model.state_dict().items()}
            loss = nn.functional.cross_entropy(model(data), labels)
            one["buffers"] = {
                key: norm([value - start[key]]) for key, value in model.named_buffers()
            }
            loss.backward()
            one["loss"] = loss.item()
            one["grad"] = norm([p.grad for p in model.parameters()])
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            one["clipped"] = norm([p.grad for p in model.parameters()])
            before = [p.detach().clone() for p in model.parameters()]
            optimizer.step()
            moved = [
                p.detach().double() - b.double()
                for p, b in zip(model.parameters(), before, strict=True)
            ]
            one["delta"], one["norm"] = norm(moved), norm(before)
            sizes = [norm([d]) for d in moved]
            one["largest"] = list(dict(model.named_parameters()))[sizes.index(max(sizes))]
            one["state"] = sum(
                t.numel() * t.element_size()
                for s in optimizer.state.values() for t in s.values() if isinstance(t, torch.Tensor)
            )  # fmt: skip
            one["start"], one["rng"], one["labels"] = start, state, labels
            found.append(one)
    return found


@pytest.fixture(scope="module", params=list(OPTIMIZERS))
def both(request, run_program, tmp_path_factory):
    """The explanation of a program, and what it should say."""
    folder = tmp_path_factory.mktemp("numbers")
    path = folder / "train.py"
    path.write_text(PROGRAM.replace("OPTIMIZER", OPTIMIZERS[request.param]))
    return record(run_program, path, folder / "record.json"), plain(OPTIMIZERS[request.param])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_gradients(both, number):
    """Norms of what was cleared, written and clipped."""
    seen, truth = both[0], both[1][number - 1]
    cleared = line(step(seen, number), seen, "zero_grad()").events[0].facts
    assert cleared["norm"] == (pytest.approx(truth["had"], rel=1e-9) if truth["had"] else None)
    (written,) = line(step(seen, number), seen, "backward()").effects.grads
    assert (written.change, written.count, written.of, written.before) == ("written", 6, 6, None)
    assert written.after == pytest.approx(truth["grad"], rel=1e-9)
    (clipped,) = line(step(seen, number), seen, "clip_grad").effects.grads
    assert clipped.change == "scaled"
    assert clipped.after == pytest.approx(truth["clipped"], rel=1e-9)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_parameters_state_and_buffers(both, number):
    """How far parameters and buffers moved, and what the optimizer remembers."""
    seen, truth = both[0], both[1][number - 1]
    effects = line(step(seen, number), seen, "optimizer.step()").effects
    (moved,) = effects.parameters
    assert (moved.count, moved.of, moved.exact) == (6, 6, True)
    assert moved.delta == pytest.approx(truth["delta"], rel=1e-9)
    assert moved.norm == pytest.approx(truth["norm"], rel=1e-9)
    assert moved.largest == f"model.{truth['largest']}"
    assert effects.state[0].bytes == truth["state"]
    assert bool(effects.state[0].born) is (number == 1)
    buffers = line(step(seen, number), seen, "model(data)").effects.buffers
    assert buffers == {
        f"model.{key}": pytest.approx(value, rel=1e-6) for key, value in truth["buffers"].items()
    }


@pytest.mark.parametrize("number", [1, 2, 3])
def test_losses_and_tensors(both, number):
    """The loss is the loss; a batch's numbers are those of the batch."""
    seen, truth = both[0], both[1][number - 1]
    assert step(seen, number).losses == [truth["loss"]]
    assert line(step(seen, number), seen, "item()").events[-1].facts["value"] == truth["loss"]
    (data, *_) = line(step(seen, number), seen, "for data").tensors
    assert (data.name, data.shape) == ("data", [16, 6])
    assert data.norm == pytest.approx(norm([truth["data"]]), rel=1e-9)
    assert (data.low, data.high) == (truth["data"].min().item(), truth["data"].max().item())
    assert seen.losses == {
        str(seen.losses and next(iter(seen.losses))): [one["loss"] for one in both[1]]
    }


def test_the_update_of_one_weight(both):
    """The written rule starts and ends where the weight did."""
    seen, truth = both
    for number in (1, 2, 3):
        (rule,) = step(seen, number).rules
        assert rule.agrees
        key = rule.name.removeprefix("model.")
        assert rule.before == truth[number - 1]["start"][key][tuple(rule.index)].item()
        if number < 3:
            assert rule.after == truth[number]["start"][key][tuple(rule.index)].item()


def test_what_there_is(both, request):
    """Sizes of model, optimizer and loader; how often the loops ran."""
    seen, _ = both
    space = {}
    text = PROGRAM.replace("OPTIMIZER", OPTIMIZERS[request.node.callspec.params["both"]])
    exec(text.partition("for epoch")[0], space)
    model, optimizer, loader = space["model"], space["optimizer"], space["loader"]
    sizes = [p.numel() for p in model.parameters()]
    (one,) = seen.models
    assert (one.name, one.kind, one.modules) == ("model", "Sequential", len(list(model.modules())))
    assert (one.tensors, one.parameters, one.trainable) == (len(sizes), sum(sizes), sum(sizes))
    assert (one.bytes, one.buffers) == (4 * sum(sizes), len(list(model.buffers())))
    objects = {facts["is"]: facts for note in seen.setup for facts in note.objects}
    assert (objects["loader"]["samples"], objects["loader"]["batches"]) == (96, len(loader))
    assert (objects["optimizer"]["tensors"], objects["optimizer"]["parameters"]) == (
        len(sizes), sum(sizes))  # fmt: skip
    group = optimizer.param_groups[0]
    settings = objects["optimizer"]["settings"]
    assert {"lr", "weight_decay"} <= set(settings)
    assert settings == {key: list(group[key]) if key == "betas" else group[key] for key in settings}
    around, inner = sorted(seen.loops, key=lambda loop: loop.line)
    assert (around.turns, around.entered, inner.turns, inner.entered) == (2, 1, 12, 2)
    assert inner.inside == seen.loops.index(around)
    for number in (1, 2, 3):
        clip = line(step(seen, number), seen, "clip_grad").events[0].facts
        truth = both[1][number - 1]
        assert clip["limit"] == 0.5
        assert clip["total_norm"] == pytest.approx(truth["grad"], rel=1e-6)
        assert clip["norm"] == pytest.approx(truth["grad"], rel=1e-9)
        stepped = line(step(seen, number), seen, "optimizer.step()").events[0].facts
        assert (stepped["of"], stepped["with_grad"], stepped["lr"]) == (6, 6, group["lr"])
        assert stepped["grad_norm"] == pytest.approx(truth["clipped"], rel=1e-9)
        facts = line(step(seen, number), seen, "backward()").events[0].facts
        assert (facts["value"], facts["leaves"], facts["freed"]) == (truth["loss"], 6, True)


def what_if(truth, optimizer, change):
    """Step 2 by hand, with one thing changed."""
    space = {}
    exec(PROGRAM.replace("OPTIMIZER", optimizer).partition("for epoch")[0], space)
    model, made = space["model"], space["optimizer"]
    criterion, parameters = space["criterion"], list(model.parameters())
    for number, one in enumerate(truth[:2]):
        torch.set_rng_state(one["rng"])
        last = number == 1
        if not (last and change == "keep"):
            made.zero_grad()
        if last:
            made.param_groups[0]["lr"] *= {"half": 0.5, "twice": 2.0}.get(change, 1.0)
            model.train(change != "eval")
            criterion.reduction = "sum" if change == "sum" else "mean"
        before = [p.detach().clone() for p in parameters]
        loss = criterion(model(one["data"]), one["labels"])
        loss.backward()
        grad = norm([p.grad for p in parameters])
        nn.utils.clip_grad_norm_(parameters, 0.5)
        made.step()
    delta = norm([p.detach() - b for p, b in zip(parameters, before, strict=True)])
    model.train()
    torch.set_rng_state(truth[1]["rng"])
    return loss.item(), grad, delta, criterion(model(truth[1]["data"]), truth[1]["labels"]).item()


def test_what_ifs(both, request):
    """Each is what the changed step gives, computed from the beginning in another process."""
    seen, truth = both
    optimizer = OPTIMIZERS[request.node.callspec.params["both"]]
    found = {one.name: one.values for one in step(seen, 2).whatifs}
    close = {"rel": 1e-6}
    _, grad, delta, _ = what_if(truth, optimizer, "keep")
    one = found["without zero_grad (line 12)"]
    assert one["grad"] == pytest.approx(grad, **close)
    assert one["grad_unchanged"] == pytest.approx(truth[1]["grad"], **close)
    assert one["delta"] == pytest.approx(delta, **close)
    for change, name in (("half", "half the learning rate"), ("twice", "twice the learning rate")):
        _, _, delta, after = what_if(truth, optimizer, change)
        assert found[name]["delta"] == pytest.approx(delta, **close)
        assert found[name]["loss_after"] == pytest.approx(after, **close)
    loss, _, _, _ = what_if(truth, optimizer, "eval")
    assert found["in eval mode"]["loss"] == pytest.approx(loss, **close)
    loss, grad, delta, _ = what_if(truth, optimizer, "sum")
    one = found["the loss summed instead of averaged"]
    assert (one["loss"], one["grad"]) == (
        pytest.approx(loss, **close),
        pytest.approx(grad, **close),
    )
    assert one["delta"] == pytest.approx(delta, **close)


def nodes_under(tensor):
    """How many graph nodes a tensor keeps alive."""
    seen, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [below for below, _ in node.next_functions]
    return len(seen)


def test_the_graph(both):
    """Nodes, leaves and what they keep, counted in the graph itself."""
    seen, truth = both
    space = {}
    exec(PROGRAM.replace("OPTIMIZER", OPTIMIZERS["sgd"]).partition("for epoch")[0], space)
    model, total = space["model"], 0.0
    kept: dict[int, int] = {}
    aside = [*model.parameters(), *model.buffers()]
    own = {one.untyped_storage().data_ptr() for one in aside}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    counts = []
    for number in range(3):
        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        if number:
            loss = space["criterion"](model(truth[0]["data"]), truth[0]["labels"])
        else:
            with hooks:
                loss = space["criterion"](model(truth[0]["data"]), truth[0]["labels"])
            (graph,) = step(seen, 1).graphs
            assert graph.nodes == nodes_under(loss) == len(graph.node_name)
            assert graph.leaves == 6
            assert graph.saved_bytes == sum(kept.values())
        total = total + loss
        counts.append(nodes_under(total))
    found = next(one for one in step(seen, 2).whatifs if one.name.startswith("without .item()"))
    assert list(found.values.values()) == counts
