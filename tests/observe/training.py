"""Small trainings that are run with and without an observer, and everything that they leave behind."""

from __future__ import annotations

import io
import pickle
import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def everything(train):
    """Losses, parameters, generators and pickles of a training that starts from fixed seeds."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    losses, modules = train()
    saved = io.BytesIO()
    torch.save(modules, saved)
    return {
        "losses": losses,
        "parameters": [p.detach().clone() for m in modules for p in m.state_dict().values()],
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "pickle": pickle.dumps(
            [{k: v.numpy() for k, v in m.state_dict().items()} for m in modules]
        ),
        "saved": len(saved.getvalue()),
    }


def data(n=96):
    x = torch.randn(n, 8)
    return x, (x[:, 0] > 0).long()


def plain():
    x, y = data()
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
    model = nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    losses = []
    for _ in range(3):
        model.train()
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = nn.CrossEntropyLoss()(model(inputs), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()
        model.eval()
        with torch.no_grad():
            losses.append(float(F.cross_entropy(model(x), y)))
    return losses, [model]


def fused():
    x, y = data()
    model = nn.Linear(8, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    losses = []
    for _ in range(9):
        optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [model]


def autocast_with_scaler():
    x, y = data()
    model = nn.Linear(8, 2)
    optimizer = torch.optim.Adam(model.parameters(), foreach=True)
    scaler = torch.amp.GradScaler("cpu")
    losses = []
    for _ in range(9):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return losses, [model]


def lbfgs():
    x, y = data()
    model = nn.Linear(8, 2)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return [optimizer.step(closure).item() for _ in range(5)], [model]


def checkpointed():
    """Blocks that are computed again in backward; one time more than that would show in batch norm."""
    from torch.utils.checkpoint import checkpoint

    x, y = data()
    blocks = nn.ModuleList(
        nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Softmax(1)) for _ in range(2)
    )
    head = nn.Linear(8, 2)
    optimizer = torch.optim.SGD([*blocks.parameters(), *head.parameters()], lr=0.1)
    losses = []
    for _ in range(9):
        optimizer.zero_grad()
        hidden = x
        for block in blocks:
            hidden = checkpoint(block, hidden, use_reentrant=False)
        loss = F.cross_entropy(head(hidden), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [blocks, head]


def transforms():
    from torch.func import functional_call, grad, vmap

    x, y = data()
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    params = {k: v.detach().clone() for k, v in model.named_parameters()}

    def loss_of(params, x, y):
        return F.cross_entropy(functional_call(model, params, (x,)), y)

    losses = []
    for _ in range(5):
        params = {
            k: p - 0.1 * g
            for (k, p), g in zip(params.items(), grad(loss_of)(params, x, y).values(), strict=True)
        }
        losses.append(loss_of(params, x, y).item())
        vmap(grad(loss_of), (None, 0, 0))(params, x[:4, None], y[:4, None])
    return losses, [model]


def workers():
    x, y = data()
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True, num_workers=2)
    model = nn.Linear(8, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [model]


class Lion(torch.optim.Optimizer):
    """An optimizer that torch does not know, with a zero_grad of its own."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.01})

    def zero_grad(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad.sign(), alpha=group["lr"])


def custom_optimizer():
    x, y = data()
    model = nn.Linear(8, 2)
    optimizer = Lion(model.parameters())
    losses = []
    for _ in range(9):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [model]


TRAININGS = [
    plain, fused, autocast_with_scaler, lbfgs, checkpointed, transforms, workers, custom_optimizer,
]  # fmt: skip
