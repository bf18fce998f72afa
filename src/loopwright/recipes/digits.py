"""8x8 handwritten digits: the data is in the package, and a run takes seconds."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from importlib.resources import files

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.errors import DataError
from loopwright.recipes.lines import lines_of
from loopwright.recipes.splits import three_parts


@lw.recipe
def digits(
    lr: float = 2e-3,
    batch_size: int = 32,
    hidden: int = 256,
    dropout: float = 0.2,
    weight_decay: float = 1e-2,
    seed: int = 0,
) -> lw.Job:
    """Classify 8x8 handwritten digits with a small MLP; data included.

    Args:
        lr: learning rate of AdamW.
        batch_size: digits per update.
        hidden: width of the two hidden layers.
        dropout: share of hidden units that are zeroed while training, 0 to 1.
        weight_decay: of AdamW.
        seed: of the initial weights, the order of the digits, and which of them validate.
    """
    pixels, labels = load_digits()
    # Pictures, so that the report shows the worst ones.
    data = TensorDataset(pixels.view(-1, 1, 8, 8), labels)
    train, valid, test = (
        TensorDataset(*data[part]) for part in three_parts(len(data), seed=seed, labels=labels)
    )

    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, 10),
    )
    return lw.Job(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay),
        criterion=nn.CrossEntropyLoss(),
        train_loader=DataLoader(train, batch_size=batch_size, shuffle=True),
        valid_loader=DataLoader(valid, batch_size=256),
        test_loader=DataLoader(test, batch_size=256),
        metrics=("accuracy",),
        scheduler=lw.warmup_cosine(),
        epochs=20,
        classes=[str(digit) for digit in range(10)],
        keep_best=("valid_accuracy", "max"),
        read=read_pixels,
        answer=most_likely,
    )


def load_digits() -> tuple[Tensor, Tensor]:
    """Return pixels from 0 to 1, float32 of shape (1797, 64), and digits, int64 of shape (1797,)."""
    packed = (files("loopwright.recipes") / "data" / "digits.u8.gz").read_bytes()
    rows = torch.frombuffer(bytearray(gzip.decompress(packed)), dtype=torch.uint8).view(-1, 65)
    return rows[:, :64].float() / 16, rows[:, 64].long()


def read_pixels(source: str) -> Iterator[tuple[str, Tensor]]:
    """Yield each line of a file, or the one line: 64 numbers from 0 to 16."""
    for name, line in lines_of(source):
        try:
            values = [float(word) for word in line.replace(",", " ").split()]
        except ValueError as error:
            raise DataError(
                f"a digit is 64 numbers: {error}", slug="not-a-digit", where=name,
                hint="64 numbers a line, with commas or blanks between them, and no line of names",
            ) from None  # fmt: skip
        if len(values) != 64:
            raise DataError(
                f"a digit is 64 numbers, not {len(values)}", slug="not-a-digit", where=name
            )
        if not all(0 <= value <= 16 for value in values):
            raise DataError(
                f"pixels go from 0 to 16; seen: {min(values)} to {max(values)}",
                slug="not-a-digit",
                where=name,
            )
        yield name, torch.tensor(values).view(1, 8, 8) / 16


def most_likely(logits: Tensor) -> dict[str, str | float]:
    """Return the answer for one digit; ``logits`` has shape (10,)."""
    probability, digit = logits.softmax(0).max(0)
    return {"label": str(digit.item()), "probability": round(probability.item(), 4)}
