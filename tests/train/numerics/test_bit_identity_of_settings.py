"""The bits stay the hand-written loop's with clipping, schedules and unusual models or optimizers."""

from __future__ import annotations

import plain
import pytest
import torch
from material import Net, equal, prepared, run_loop, state, tensors, train_loader
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, StepLR
from torch.utils.checkpoint import checkpoint

import loopwright as lw

CRITERION = nn.CrossEntropyLoss()


def both(make_optimizer, model=Net, *, by_hand=None, ours=None, seed=0):
    """Train with a run and by hand; returns both models.

    ``by_hand`` and ``ours`` make the keywords of the plain loop and of the run from the optimizer.
    """
    hand, optimizer, loader = prepared(make_optimizer, model=model)
    plain.train(hand, optimizer, loader, 3, CRITERION, **(by_hand(optimizer) if by_hand else {}))
    net, optimizer, loader = prepared(make_optimizer, model=model, seed=seed)
    run_loop(net, optimizer, loader, 3, CRITERION, **(ours(optimizer) if ours else {}))
    return net, hand


def sgd(parameters):
    """Return SGD with momentum."""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


@pytest.mark.parametrize("largest", [0.3, 1e6])
def test_clip_is_clip_grad_norm(largest):
    """``clip=`` gives the bits of ``clip_grad_norm_``, where it clips and where it does not."""
    ours, hand = both(sgd, by_hand=lambda o: {"clip": largest}, ours=lambda o: {"clip": largest})
    assert equal(ours, hand)


def test_another_clip_gives_other_bits():
    """The comparison can fail: a slightly larger norm goes elsewhere."""
    ours, hand = both(sgd, by_hand=lambda o: {"clip": 0.3}, ours=lambda o: {"clip": 0.31})
    assert not equal(ours, hand)


def test_clip_value_is_clip_grad_value():
    """``clip="value:…"`` gives the bits of ``clip_grad_value_``."""
    hand, optimizer, loader = prepared(sgd)
    for data, labels in loader:
        optimizer.zero_grad()
        CRITERION(hand(data), labels).backward()
        torch.nn.utils.clip_grad_value_(hand.parameters(), 0.01)
        optimizer.step()
    ours, optimizer, loader = prepared(sgd)
    run_loop(ours, optimizer, loader, 1, CRITERION, clip="value:0.01")
    assert equal(ours, hand)


SCHEDULERS = {
    "per_update": (
        lambda o: {"per_update": OneCycleLR(o, 0.1, total_steps=15)},
        lambda o: {"scheduler": OneCycleLR(o, 0.1, total_steps=15)},
    ),
    "per_epoch": (
        lambda o: {"per_epoch": StepLR(o, 1, gamma=0.3)},
        lambda o: {"scheduler": lw.per_epoch(StepLR(o, 1, gamma=0.3))},
    ),
    "by function": (
        lambda o: {"per_update": CosineAnnealingLR(o, 15)},
        lambda o: {"scheduler": lw.per_update(CosineAnnealingLR(o, 15))},
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(name):
    """A scheduler per update or per epoch steps where the plain loop steps it."""
    by_hand, ours = SCHEDULERS[name]
    net, hand = both(sgd, by_hand=by_hand, ours=ours)
    assert equal(net, hand)


def test_a_scheduler_with_the_wrong_unit_gives_other_bits():
    """The comparison can fail: the same scheduler per epoch instead of per update goes elsewhere."""
    net, hand = both(
        sgd,
        by_hand=lambda o: {"per_update": StepLR(o, 2)},
        ours=lambda o: {"scheduler": lw.per_epoch(StepLR(o, 2))},
    )
    assert not equal(net, hand)


OPTIMIZERS = {
    "sgd foreach": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, foreach=True),
    "sgd fused": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, fused=True),
    "sgd nesterov, weight decay": lambda p: torch.optim.SGD(
        p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01
    ),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True, weight_decay=0.1),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adamw amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "adam, lr as a tensor": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01)),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.003),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.03),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.03),
    "two groups": lambda p: two_groups(list(p)),
}


def two_groups(parameters):
    """Return SGD with biases and norms out of weight decay."""
    wide = [p for p in parameters if p.ndim > 1]
    narrow = [p for p in parameters if p.ndim == 1]
    return torch.optim.SGD(
        [{"params": wide, "weight_decay": 0.1}, {"params": narrow, "lr": 0.01}], lr=0.05
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name):
    """Foreach, fused and other optimizers step on the very gradients of the plain loop."""
    assert equal(*both(OPTIMIZERS[name]))


class Sentence(nn.Module):
    """Embeddings of whole-number inputs; the output layer may share their weights."""

    def __init__(self, *, sparse=False, tied=False):
        super().__init__()
        self.embed = nn.Embedding(20, 6, sparse=sparse)
        self.output = nn.Linear(6, 20 if tied else 3, bias=False)
        if tied:
            self.output.weight = self.embed.weight

    def forward(self, x):
        return self.output(self.embed((x.abs() * 4).long().clamp(max=19)).mean(1))


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(
    "make_optimizer",
    [lambda p: torch.optim.SGD(p, lr=0.1), lambda p: torch.optim.Adagrad(p, lr=0.1)],
)
def test_sparse_embeddings(make_optimizer):
    """Sparse gradients reach the optimizer as they are."""
    assert equal(*both(make_optimizer, lambda: Sentence(sparse=True)))


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_sparse_adam_beside_adam():
    """Sparse and dense parameters under two optimizers step as by hand."""

    def make():
        lw.seed(0)
        model = Sentence(sparse=True)
        return (
            model,
            {
                "rows": torch.optim.SparseAdam(list(model.embed.parameters()), lr=0.05),
                "rest": torch.optim.Adam(model.output.parameters(), lr=0.05),
            },
            train_loader(),
        )

    hand, optimizers, loader = make()
    for data, labels in loader:
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        CRITERION(hand(data), labels).backward()
        for optimizer in optimizers.values():
            optimizer.step()
    ours, optimizers, loader = make()
    run_loop(ours, optimizers, loader, 1, CRITERION)
    assert equal(ours, hand)


def test_tied_weights():
    """A weight that two layers share gets both gradients once, as by hand."""
    net, hand = both(sgd, lambda: Sentence(tied=True))
    assert net.output.weight is net.embed.weight
    assert equal(net, hand)


class Checkpointed(Net):
    def forward(self, x):
        return checkpoint(self.layers, x, use_reentrant=False)


def test_gradient_checkpointing():
    """Activations that are computed again, dropout included, give the plain loop's bits."""
    assert equal(*both(sgd, Checkpointed))


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.long)])
def test_compiled_model(backend):
    """``compile=`` with a backend that keeps the operations gives the bits of the compiled plain loop."""
    torch._dynamo.reset()
    hand, optimizer, loader = prepared(sgd)
    compiled = torch.compile(hand, backend=backend, dynamic=True)
    plain.train(compiled, optimizer, loader, 2, CRITERION)
    torch._dynamo.reset()
    ours, optimizer, loader = prepared(sgd)
    with run_loop(
        ours, optimizer, loader, 2, CRITERION, compile={"backend": backend, "dynamic": True}
    ):
        assert equal(ours, hand)
    torch._dynamo.reset()


def test_frozen_parts_stay_frozen():
    """Frozen weights and a BatchNorm that the user put in eval keep weights, statistics and mode."""

    def frozen():
        model = Net()
        model.layers[0].requires_grad_(False)
        model.layers[1].eval()
        return model

    hand, optimizer, loader = prepared(sgd, model=frozen)
    before = state(hand)
    for data, labels in loader:
        optimizer.zero_grad()
        CRITERION(hand(data), labels).backward()
        optimizer.step()
    ours, optimizer, loader = prepared(sgd, model=frozen)
    run_loop(ours, optimizer, loader, 1, CRITERION, evaluate=[tensors()])
    assert equal(ours, hand)
    now = state(ours)
    for name in ("layers.0.weight", "layers.1.running_mean", "layers.1.num_batches_tracked"):
        assert torch.equal(now[name], before[name])
    assert not torch.equal(now["layers.4.weight"], before["layers.4.weight"])
    assert [m.training for m in ours.layers] == [True, False, True, True, True]


def test_gradients_from_before_the_loop_are_cleared():
    """What an earlier backward left in ``.grad`` does not reach the first update."""
    hand, optimizer, loader = prepared(sgd)
    plain.train(hand, optimizer, loader, 1, CRITERION)
    ours, optimizer, loader = prepared(sgd)
    for parameter in ours.parameters():
        parameter.grad = torch.ones_like(parameter)
    run_loop(ours, optimizer, loader, 1, CRITERION)
    assert equal(ours, hand)
