"""A table in a CSV or Parquet file: predict one column from the others.

Shapes: B rows, N columns of numbers, W columns of words, E features per word, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.errors import DataError, UsageError
from loopwright.recipes.columns import Columns, read_columns
from loopwright.recipes.encoding import Encoding, spell
from loopwright.recipes.nearest import did_you_mean
from loopwright.recipes.splits import three_parts


@lw.recipe
def table(
    data: Path,
    target: str,
    task: Literal["auto", "classification", "regression"] = "auto",
    ignore: tuple[str, ...] = (),
    lr: float = 2e-3,
    batch_size: int = 64,
    hidden: int = 128,
    dropout: float = 0.1,
    weight_decay: float = 1e-2,
    seed: int = 0,
) -> lw.Job:
    """Predict one column of a CSV or Parquet file from the others.

    80 % of the rows are for training, 10 % for validation, 10 % for the test. Numbers are
    standardised and words numbered by the training rows alone; both are saved with the weights.

    Args:
        data: a .csv, .tsv or .parquet file; the first line of a CSV names the columns.
        target: name of the column to predict.
        task: "auto" is classification where the target is of words, or of at most 10 whole numbers.
        ignore: names of columns to leave out.
        lr: learning rate of AdamW.
        batch_size: rows per update.
        hidden: width of the two hidden layers.
        dropout: share of hidden units that are zeroed while training, 0 to 1.
        weight_decay: of AdamW.
        seed: of the initial weights, the order of the rows, and which of them validate.
    """
    columns = with_target(read_columns(data), target)
    for name in ignore:
        find_column(columns, name)
    classes = class_names(columns, target, task)
    if classes:
        known = {name: number for number, name in enumerate(classes)}
        targets = torch.tensor([known[spell(value)] for value in columns.values[target]])
    else:
        targets = torch.tensor(numbers(columns, target), dtype=torch.float32)

    parts = three_parts(len(columns), seed=seed, labels=targets if classes else None)
    names = [name for name in columns.values if name != target and name not in ignore]
    encoding = Encoding.fit(columns, names, rows=parts[0].tolist())
    inputs = encoding.encode(columns)
    train, valid, test = (TensorDataset(inputs[part], targets[part]) for part in parts)

    model = TableModel(
        encoding, *train.tensors, outputs=len(classes), hidden=hidden, dropout=dropout
    )
    return lw.Job(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay),
        criterion=nn.CrossEntropyLoss() if classes else ScaledSquare(train.tensors[1]),
        train_loader=DataLoader(train, batch_size=batch_size, shuffle=True),
        valid_loader=DataLoader(valid, batch_size=1024),
        test_loader=DataLoader(test, batch_size=1024),
        metrics=("accuracy",) if classes else {"mae": AbsoluteError()},
        scheduler=lw.warmup_cosine(),
        epochs=40,
        classes=classes or None,
        keep_best=("valid_loss", "min"),
        read=lambda source: read_rows(source, model),
        answer=lambda outputs: answer(outputs, target, classes),
    )


class TableModel(nn.Module):
    """Encoded rows (B, N + W), as they come from the file, to logits (B, K) or to numbers (B,)."""

    def __init__(
        self,
        encoding: Encoding,
        inputs: Tensor,
        targets: Tensor,
        *,
        outputs: int,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.regression = outputs == 0
        self.numeric = len(encoding.numeric)
        sizes = [len(words) + 1 for words in encoding.words.values()]
        # Buffers: what was learnt from the training rows is saved with the weights.
        self.register_buffer("encoding", encoding.to_tensor())
        if self.numeric:
            mean, deviation = mean_and_deviation(inputs[:, : self.numeric])
            self.register_buffer("mean", mean)
            self.register_buffer("deviation", deviation)
        self.embedding = None
        if sizes:
            self.embedding = nn.Embedding(sum(sizes), 8)
            self.register_buffer("offsets", torch.tensor([0, *sizes[:-1]]).cumsum(0))
        if self.regression:
            target_mean, target_deviation = mean_and_deviation(targets[:, None])
            self.register_buffer("target_mean", target_mean)
            self.register_buffer("target_deviation", target_deviation)
        self.layers = nn.Sequential(
            nn.Linear(2 * self.numeric + 8 * len(sizes), hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, outputs or 1),
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Return logits, or the target in its own unit; a missing number counts as the mean."""
        features = []
        if self.numeric:
            scaled = (rows[:, : self.numeric] - self.mean) / self.deviation
            missing = scaled.isnan()
            features += [torch.where(missing, 0.0, scaled).clamp(-10, 10), missing.float()]
        if self.embedding is not None:
            words = self.embedding(rows[:, self.numeric :].long() + self.offsets)
            features.append(words.flatten(1))
        outputs = self.layers(torch.cat(features, dim=1))
        if self.regression:
            return outputs.squeeze(1) * self.target_deviation + self.target_mean
        return outputs


class ScaledSquare(nn.Module):
    """Mean squared error in units of the training targets' variance: 1 is what the mean scores."""

    def __init__(self, targets: Tensor) -> None:
        super().__init__()
        self.variance = targets.var().clamp(min=1e-12).item()

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return a 0-d loss for outputs and targets (B,)."""
        return (outputs - targets).square().mean() / self.variance


class AbsoluteError:
    """A metric, the mean of the absolute error: anything with update, compute and reset is one."""

    def __init__(self) -> None:
        self.mean = lw.Mean()

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in a batch."""
        self.mean.update((outputs - targets).abs())

    def compute(self) -> float:
        """Return the mean of all batches since the last reset."""
        return self.mean.compute()

    def reset(self) -> None:
        """Forget what was taken in."""
        self.mean.reset()


def mean_and_deviation(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return both for each column of values (B, N), not counting nan; a deviation is never 0."""
    mean = values.nanmean(0)
    deviation = (values - mean).square().nanmean(0).sqrt()
    return mean.nan_to_num(0.0), torch.where(deviation > 0, deviation, 1.0)


def find_column(columns: Columns, name: str) -> None:
    """Raise a UsageError that names the nearest column, unless there is one of that name."""
    if name not in columns.values:
        hint = did_you_mean(name, columns.values)
        raise UsageError(f"there is no column {name!r}", slug="no-column", hint=hint)


def with_target(columns: Columns, target: str) -> Columns:
    """Return the columns, once the target is known in every row.

    Raises:
        UsageError: there is no such column.
        DataError: a row has no target.
    """
    find_column(columns, target)
    for row, value in enumerate(columns.values[target]):
        if value is None:
            raise DataError(
                f"the target {target!r} is missing",
                slug="missing-target",
                where=columns.row_name(row),
                hint="remove the rows without a target",
            )
    return columns


def class_names(columns: Columns, target: str, task: str) -> list[str]:
    """Return the classes in order, none for a regression."""
    values = {value for value in columns.values[target] if value is not None}
    numeric = [value for value in values if isinstance(value, float)]
    words = len(numeric) < len(values)
    few = len(values) <= 10 and all(value.is_integer() for value in numeric)
    if task == "regression" or (task == "auto" and not words and not few):
        return []
    if len(values) < 2:
        raise DataError(f"the target {target!r} is the same in every row", slug="one-class")
    if len(values) > max(50, len(columns) / 10):
        raise UsageError(
            f"the target {target!r} has {len(values)} classes in {len(columns)} rows",
            slug="too-many-classes",
            hint="--task regression, or another target",
        )
    return [
        spell(value) for value in sorted(values, key=lambda value: (isinstance(value, str), value))
    ]


def numbers(columns: Columns, name: str) -> list[float]:
    """Return a column of numbers.

    Raises:
        DataError: there is a word in it.
    """
    found: list[float] = []
    for row, value in enumerate(columns.values[name]):
        if not isinstance(value, float):
            raise DataError(
                f"a regression needs numbers; {name!r} is {value!r}",
                slug="not-a-number",
                where=columns.row_name(row),
                hint="--task classification",
            )
        found.append(value)
    return found


def read_rows(source: str, model: TableModel) -> Iterator[tuple[str, Tensor]]:
    """Yield each row of a file that has the columns of the training file, but for the target."""
    columns = read_columns(Path(source))
    rows = Encoding.from_tensor(model.encoding).encode(columns)
    for number, row in enumerate(rows):
        yield columns.row_name(number), row


def answer(outputs: Tensor, target: str, classes: list[str]) -> dict[str, str | float]:
    """Return the answer for one row: outputs (K,) or, for a regression, 0-d."""
    if not classes:
        return {target: round(outputs.item(), 6)}
    probability, label = outputs.softmax(0).max(0)
    return {"label": classes[int(label)], "probability": round(probability.item(), 4)}
