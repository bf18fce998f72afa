"""What a run reads of the user's tensors leaves their memory as it was: torch can still resize it."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw


def parts():
    """A model with buffers, Adam, a TensorDataset; everything that a checkpoint copies."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters())
    return model, optimizer, (torch.randn(32, 8), torch.randn(32, 4))


def test_memory_can_be_resized_afterwards(tmp_path):
    """Data, weights, buffers and the optimizer's state, after checkpoints, a resume and a validation."""
    model, optimizer, data = parts()
    saves = lw.Checkpoint(every_steps=1)
    run = lw.Run(
        tmp_path / "run", model=model, optimizer=optimizer, checkpoint=saves, progress=False
    )
    loader = DataLoader(TensorDataset(*data), batch_size=8, shuffle=True)
    for step in run.loop(loader, epochs=2):
        x, y = step.batch
        step.backward(nn.functional.mse_loss(model(x), y))
        step.update()
        if step.ends_epoch:
            for x, _ in run.evaluate(loader):
                model(x)
    run.close()
    state = [one for slot in optimizer.state.values() for one in slot.values()]
    tensors = [*data, *model.parameters(), *model.buffers(), *state]
    assert len(tensors) > 12
    assert all(tensor.untyped_storage().resizable() for tensor in tensors)
    again = parts()[0]
    lw.load_weights(tmp_path / "run", again)
    assert all(tensor.untyped_storage().resizable() for tensor in again.state_dict().values())


def test_the_test_would_see_it():
    """``numpy()`` is what takes it away."""
    tensor = torch.randn(3)
    assert tensor.untyped_storage().resizable()
    tensor.numpy()
    assert not tensor.untyped_storage().resizable()
