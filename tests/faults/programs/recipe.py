"""A recipe whose training the fault tests disturb: ``loopwright train recipe.py``."""

from __future__ import annotations

import marks
import torch
from data import Samples, valid_loader
from torch import nn
from torch.utils.data import DataLoader

import loopwright as lw


@lw.recipe
def mine(lr: float = 0.02) -> lw.Job:
    """Learn the sum of five numbers.

    Args:
        lr: step size.
    """
    marks.begin()
    model = nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 1)
    )
    return lw.Job(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=lr),
        criterion=nn.MSELoss(),
        train_loader=DataLoader(Samples("random"), 4, shuffle=True),
        valid_loader=valid_loader(draws=False),
        keep_best=("valid_loss", "min"),
        epochs=3,
    )
