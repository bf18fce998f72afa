"""The public surface as users type it; checked by the type gate, never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import torch
from torch import Tensor, nn

import loopwright as lw


def loop(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """Keep the loop visible."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = lw.Run(Path("runs"), model=model, optimizer=optimizer, precision="bf16", clip=1.0)
    assert_type(run, lw.Run)
    for step in run.loop(batches, epochs=2):
        assert_type(step, lw.Step)
        inputs, target = step.batch
        step.backward(nn.functional.cross_entropy(run.model(inputs), target))
        stepped: bool = step.update()
        step.log(stepped=stepped)
        if step.ends_epoch:
            accuracy = lw.Accuracy()
            for inputs, target in run.evaluate(batches):
                accuracy.update(run.model(inputs), target)
            step.log(valid_accuracy=accuracy)
            run.keep_best("valid_accuracy", mode="max")
    run.close()
    mean = lw.Mean()
    mean.update(1.0)
    return mean.compute()


def one_call(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> lw.Run:
    """Give everything to fit; the optimizer may be a function."""
    return lw.fit(
        model,
        lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
        nn.CrossEntropyLoss(),
        batches,
        batches,
        epochs=1,
        metrics=["accuracy"],
        scheduler=lw.warmup_cosine(),
        callbacks=[lw.early_stopping("valid_loss", patience=2)],
    )


@lw.recipe
def mine(lr: float = 0.1, seed: int = 0) -> lw.Job:
    """Stay the function that it was."""
    model = nn.Linear(2, 1)
    return lw.Job(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr),
        criterion=nn.MSELoss(),
        train_loader=[],
        epochs=seed,
    )


assert_type(mine(lr=0.2), lw.Job)


def caught() -> int:
    """Catch by kind; every error has a slug."""
    try:
        lw.seed(-1)
    except lw.UsageError as error:
        return len(error.slug) + lw.LoopwrightError.exit_code
    return 0
