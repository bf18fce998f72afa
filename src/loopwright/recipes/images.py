"""Pictures in one folder per class, such as ``flowers/rose/1.jpg`` and ``flowers/tulip/7.png``."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.errors import UsageError
from loopwright.recipes.pictures import picture_files, read_picture
from loopwright.recipes.splits import three_parts


@lw.recipe
def images(
    data: Path,
    size: int = 64,
    lr: float = 2e-3,
    batch_size: int = 32,
    width: int = 16,
    dropout: float = 0.2,
    weight_decay: float = 0.05,
    seed: int = 0,
) -> lw.Job:
    """Classify images that lie in one folder per class.

    Of every class 80 % are for training, 10 % for validation, 10 % for the test. The pictures are
    read once and kept in memory: 10,000 of 64x64 take 123 MB.

    Args:
        data: a folder with a folder of pictures for every class.
        size: pixels of a side that the pictures are brought to, 16 at least.
        lr: learning rate of AdamW.
        batch_size: pictures per update.
        width: channels of the first of four stages; each later one has twice as many.
        dropout: share of the last features that are zeroed while training, 0 to 1.
        weight_decay: of AdamW.
        seed: of the initial weights, the order, the augmentation, and which pictures validate.
    """
    if size < 16:
        raise UsageError(f"size={size} is too small: 16 at least", slug="recipe-parameter")
    pictures, labels, classes = load_folder(data, size)
    parts = three_parts(len(labels), seed=seed, labels=labels)
    train, valid, test = (TensorDataset(pictures[part], labels[part]) for part in parts)

    model = nn.Sequential(
        Normalise(train.tensors[0]),
        Augment(),
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        Residual(width, 2 * width),
        Residual(2 * width, 4 * width),
        Residual(4 * width, 8 * width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(8 * width, len(classes)),
    )
    return lw.Job(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay),
        criterion=nn.CrossEntropyLoss(label_smoothing=0.05),
        train_loader=DataLoader(train, batch_size=batch_size, shuffle=True),
        valid_loader=DataLoader(valid, batch_size=batch_size),
        test_loader=DataLoader(test, batch_size=batch_size),
        metrics=("accuracy",),
        scheduler=lw.warmup_cosine(warmup=0.1),
        epochs=20,
        classes=classes,
        keep_best=("valid_accuracy", "max"),
        read=lambda source: read_pictures(source, size),
        answer=lambda logits: most_likely(logits, classes),
    )


class Normalise(nn.Module):
    """Bytes (B, 3, H, W) to floats around 0, by mean and deviation of the training pictures."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        channels = (
            pictures.transpose(0, 1).flatten(1)[:, ::7].float()
        )  # every seventh pixel will do
        self.register_buffer("mean", channels.mean(1).view(3, 1, 1))
        self.register_buffer("deviation", channels.std(1).clamp(min=1).view(3, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return float pictures."""
        return (pictures - self.mean) / self.deviation


class Augment(nn.Module):
    """While training, mirror, turn, shift, zoom and light every picture a little differently."""

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the pictures (B, 3, H, W); in eval mode, as they are."""
        if not self.training:
            return pictures
        # One row of draws per picture, each from -1 to 1.
        draws = torch.rand(7, len(pictures), device=pictures.device) * 2 - 1
        mirror = torch.where(draws[0] < 0, -1.0, 1.0)
        angle, zoom = 0.2 * draws[1], 1 - 0.15 * draws[2]
        rows = [
            torch.stack([mirror * zoom * angle.cos(), -zoom * angle.sin(), 0.1 * draws[3]], dim=1),
            torch.stack([mirror * zoom * angle.sin(), zoom * angle.cos(), 0.1 * draws[4]], dim=1),
        ]
        grid = nn.functional.affine_grid(
            torch.stack(rows, dim=1), list(pictures.shape), align_corners=False
        )
        moved = nn.functional.grid_sample(
            pictures, grid, padding_mode="reflection", align_corners=False
        )
        contrast, brightness = 1 + 0.2 * draws[5], 0.2 * draws[6]
        return moved * contrast.view(-1, 1, 1, 1) + brightness.view(-1, 1, 1, 1)


class Residual(nn.Module):
    """Two convolutions added to a shortcut; halves height and width."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True),
            nn.Conv2d(channels_in, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, channels_out, H / 2, W / 2)."""
        return nn.functional.relu(self.branch(features) + self.shortcut(features))


def load_folder(folder: Path, size: int) -> tuple[Tensor, Tensor, list[str]]:
    """Return pictures, uint8 of shape (N, 3, size, size), labels, int64 of shape (N,), and classes.

    Raises:
        UsageError: no such folder, fewer than two classes in it, or a class without pictures.
        DataError: a picture that cannot be read.
    """
    if not folder.is_dir():
        what = f"{folder} is not a folder" if folder.exists() else f"there is no folder {folder}"
        raise UsageError(what, slug="no-data", hint="name a folder with one folder per class")
    classes = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if len(classes) < 2:
        raise UsageError(
            f"{folder} holds {len(classes)} folder(s); a classifier needs two classes at least",
            slug="no-classes",
            hint=f"put the pictures into {folder}/<class>/",
        )
    if {name.lower() for name in classes} <= {"train", "test", "val", "valid", "validation"}:
        raise UsageError(
            f"the folders of {folder} are parts, not classes: {', '.join(classes)}",
            slug="no-classes",
            hint=f"give --data {folder / classes[-2]} ; the recipe divides it by itself",
        )
    files = [picture_files(folder / name) for name in classes]
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(lambda path: read_picture(path, size), chain.from_iterable(files)))
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(f) for f in files]))
    return torch.stack(pictures), labels, classes


def read_pictures(source: str, size: int) -> Iterator[tuple[str, Tensor]]:
    """Yield each picture of a file or folder."""
    for path in picture_files(Path(source)):
        yield str(path), read_picture(path, size)


def most_likely(logits: Tensor, classes: list[str]) -> dict[str, str | float]:
    """Return the answer for one picture; ``logits`` has one entry per class."""
    probability, label = logits.softmax(0).max(0)
    return {"label": classes[int(label)], "probability": round(probability.item(), 4)}
