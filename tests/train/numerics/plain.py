"""The loop that everybody writes, by hand: what ``lw.Run`` is compared with, bit for bit."""

from __future__ import annotations

import torch
from torch import nn


def train(
    model, optimizer, loader, epochs, criterion, *,
    valid_loader=None, clip=None, per_update=None, per_epoch=None,
):  # fmt: skip
    """Train as the tutorial does; validation draws from generators of its own.

    Returns:
        The mean loss of each epoch, and the learning rate of every update.
    """
    losses, rates = [], []
    for _epoch in range(epochs):
        train_loss = 0.0
        for data, labels in loader:
            optimizer.zero_grad()
            target = model(data)
            loss = criterion(target, labels)
            loss.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if per_update is not None:
                per_update.step()
            train_loss += loss.item()
        losses.append(train_loss / len(loader))
        if valid_loader is not None:
            validate(model, valid_loader, criterion)
        if per_epoch is not None:
            per_epoch.step()
    return losses, rates


def validate(model, loader, criterion):
    """Return the mean loss over a data set, and leave no trace in the generators."""
    total, samples = 0.0, 0
    model.eval()
    with torch.random.fork_rng(), torch.no_grad():
        for data, labels in loader:
            total += criterion(model(data), labels).item() * len(labels)
            samples += len(labels)
    model.train()
    return total / samples


def full_batch_gradients(model, loss):
    """Return the gradients of ``loss`` by parameter name; the model's own are left alone."""
    named = dict(model.named_parameters())
    grads = torch.autograd.grad(loss, list(named.values()))
    return dict(zip(named, grads, strict=True))


def token_loss(model: nn.Module, ids, targets):
    """Return the mean cross-entropy over the targets that count (not -100), and their number."""
    logits = model(ids)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    return loss, int((targets != -100).sum())
