"""One bad input: what stands in the folder, what is typed, and how it must end."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One mistake.

    Attributes:
        words: the command, without ``loopwright``.
        code: its exit code.
        error: in the error's line.
        hint: in the hint's line; empty: there may be none.
        files: what stands in the folder.
        above: in the lines above the error.
        run: a trained run is in the folder, as ``run``, with its recipe ``mine.py``.
        harm: done to the folder before the command.
        trained: training had begun, so a run folder stays; None: it may have.
        holder: another process holds ``run``.
        limits: the program has: "no root" (may not write where nobody may), "files of 20 kB", "audit".
    """

    words: str
    code: int
    error: str
    hint: str = ""
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    above: str = ""
    run: bool = False
    harm: Callable[[Path], None] | None = None
    trained: bool | None = False
    holder: bool = False
    limits: str = ""

    def __str__(self) -> str:
        return f"{self.words or 'nothing'}: {self.error or self.code}"


RECIPE = """\
import os, signal, sys, time
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
import loopwright as lw

X = torch.arange(96.0).reshape(32, 3) / 96
Y = torch.arange(32) % 2
{above}

class Data(Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, index):
        {sample}
        return X[index], int(Y[index])


@lw.recipe
def mine({parameters}) -> lw.Job:
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.1), nn.Linear(8, 2))
    optimizer = lambda parameters: torch.optim.Adam(parameters, lr=0.01)
    criterion, compute_loss = nn.CrossEntropyLoss(), None
    loader = DataLoader(Data(), batch_size=8, num_workers={workers})
    valid = DataLoader(Data(), batch_size=16)
    {body}
    return lw.Job(
        model=model,
        optimizer=optimizer,
        criterion=criterion,
        compute_loss=compute_loss,
        train_loader=loader,
        valid_loader=valid,
        epochs=2,
    )
"""


def recipe(
    body: str = "pass",
    *,
    sample: str = "pass",
    above: str = "",
    workers: int = 0,
    parameters: str = "",
) -> dict[str, str]:
    """A recipe file, with lines of the row's own in the recipe, in a sample, or above both."""
    return {
        "mine.py": RECIPE.format(
            body=_below(body, 4), sample=_below(sample, 8), above=textwrap.dedent(above),
            workers=workers, parameters=parameters,
        )
    }  # fmt: skip


def _below(text: str, width: int) -> str:
    return textwrap.indent(textwrap.dedent(text), " " * width).strip()
