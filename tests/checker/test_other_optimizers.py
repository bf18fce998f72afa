"""Optimizers of other people: the same weights observed, healthy loops silent, a missing zero_grad found.

``pytorch-optimizer`` has more than a hundred, each with a way of its own: weights written back, gradients of
parameters that moved, steps with a closure, wrappers around others.
"""

from __future__ import annotations

import json

import pytest

PROGRAM = '''
import json, sys, warnings
warnings.simplefilter("ignore")  # theirs
import torch
from torch import nn
import pytorch_optimizer as others
import loopwright as lw

SAM = {"SAM", "WSAM", "LookSAM", "GSAM", "FriendlySAM"}
WRAPPERS = {"Lookahead", "OrthoGrad", "ScheduleFreeWrapper"}
SGD = torch.optim.SGD

def made(name, model):
    kind = getattr(others, name)
    if name in WRAPPERS:
        return kind(SGD(model.parameters(), lr=1e-3))
    if name in SAM:
        return kind(model.parameters(), base_optimizer=SGD, lr=1e-3)
    if "Muon" in name or name == "AdaGO":
        matrices = [p for p in model.parameters() if p.dim() > 1]
        rest = [p for p in model.parameters() if p.dim() == 1]
        groups = [{"params": matrices, "use_muon": True}, {"params": rest, "use_muon": False}]
        return kind(groups, lr=1e-3)
    return kind(model.parameters(), lr=1e-3)

def train(name, clears=True):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))
    optimizer = made(name, model)
    x = torch.randn(64, 8)
    y = (x[:, 0] > 0).long()
    if hasattr(optimizer, "train"):
        optimizer.train()
    for step in range(8):
        some = slice(step % 4 * 16, step % 4 * 16 + 16)
        def closure():
            if clears:
                optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[some]), y[some])
            loss.backward()
            return loss
        if name in SAM | {"LBFGS"}:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
    return [p.detach().clone() for p in model.parameters()] + [torch.get_rng_state()]

def told(name):
    """None where it cannot be trained like this; else: same bits, steps, findings healthy and faulty."""
    try:
        plain = train(name)
    except Exception:  # what it wants is another loop
        return None
    with lw.watch() as healthy:
        same = all(map(torch.equal, train(name), plain))
    faulty = []
    if name not in SAM | {"LBFGS"}:
        with lw.watch() as seen:
            try:
                train(name, clears=False)
            except RuntimeError:  # the sum of all gradients makes some diverge
                pass
        faulty = [one.rule for one in seen.mistakes]
    return same, [one.rule + ": " + one.message for one in healthy.mistakes], faulty

classes = {name: one for name, one in vars(others).items() if isinstance(one, type)}
every = sorted(name for name, one in classes.items() if issubclass(one, torch.optim.Optimizer))
print(json.dumps({name: told(name) for name in sys.argv[1:] or every}))
'''


def judge(told):
    """Each that can be trained like this is silent and untouched; the mistake is the only one told."""
    trained = {name: one for name, one in told.items() if one is not None}
    for name, (same, healthy, faulty) in trained.items():
        assert same, name
        assert healthy == [], name
        assert faulty in ([], ["missing-zero-grad"]), name
    return trained


@pytest.mark.long
def test_all(run_program, tmp_path):
    """Every one that can be made with a model's parameters; the mistake is found with nearly all."""
    pytest.importorskip("pytorch_optimizer")
    done = run_program(["-c", PROGRAM], cwd=tmp_path, timeout=600)
    assert done.rc == 0, done.err
    trained = judge(json.loads(done.out))
    assert len(trained) >= 110
    assert {"Lion", "Lookahead", "SAM", "ScheduleFreeAdamW", "FlashAdamW", "Muon"} <= set(trained)
    assert sum(bool(faulty) for *_, faulty in trained.values()) >= len(trained) - 8
