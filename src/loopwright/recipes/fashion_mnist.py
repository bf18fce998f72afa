"""Fashion-MNIST: 70,000 grey pictures of clothing, 28x28, ten kinds; any data set in its form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.errors import DataError
from loopwright.recipes.idx import find_idx, read_idx
from loopwright.recipes.pictures import picture_files, read_picture

CLASSES = [
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
]


@lw.recipe
def fashion_mnist(
    data: Path,
    lr: float = 4e-3,
    batch_size: int = 128,
    width: int = 16,
    dropout: float = 0.2,
    weight_decay: float = 0.05,
    seed: int = 0,
) -> lw.Job:
    """Classify 28x28 pictures of clothing with a small CNN.

    5,000 of the training pictures validate; the test pictures are those of the t10k files.

    Args:
        data: the folder with the four idx files, such as train-images-idx3-ubyte.gz.
        lr: learning rate of AdamW.
        batch_size: pictures per update.
        width: channels of the first convolution; the second has twice as many.
        dropout: share of the features that are zeroed while training, 0 to 1.
        weight_decay: of AdamW.
        seed: of the initial weights, the order of the pictures, and which of them validate.
    """
    pictures, labels = load_part(data, "train")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    held_out = len(labels) // 12
    train = TensorDataset(pictures[order[held_out:]], labels[order[held_out:]])
    valid = TensorDataset(pictures[order[:held_out]], labels[order[:held_out]])
    test = TensorDataset(*load_part(data, "t10k"))

    model = nn.Sequential(
        RandomFlip(),
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(2 * width * 7 * 7, 128),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(128, len(CLASSES)),
    )
    return lw.Job(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay),
        criterion=nn.CrossEntropyLoss(),
        train_loader=DataLoader(train, batch_size=batch_size, shuffle=True),
        valid_loader=DataLoader(valid, batch_size=500),
        test_loader=DataLoader(test, batch_size=500),
        metrics=("accuracy",),
        scheduler=lw.warmup_cosine(warmup=0.1),
        epochs=8,
        classes=CLASSES,
        keep_best=("valid_accuracy", "max"),
        read=read_pictures,
        answer=most_likely,
    )


class RandomFlip(nn.Module):
    """Mirror half of the pictures left to right, while training; (B, C, H, W) to the same."""

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the pictures; in eval mode, as they are."""
        if not self.training:
            return pictures
        chosen = torch.rand(len(pictures), 1, 1, 1, device=pictures.device) < 0.5
        return torch.where(chosen, pictures.flip(3), pictures)


def load_part(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Return pictures, float32 of shape (N, 1, 28, 28), and labels, int64 of shape (N,)."""
    labels_path = find_idx(folder, f"{part}-labels-idx1-ubyte")
    pictures = read_idx(find_idx(folder, f"{part}-images-idx3-ubyte"), dimensions=3)
    labels = read_idx(labels_path, dimensions=1).long()
    if len(pictures) != len(labels):
        raise DataError(
            f"{len(pictures):,} pictures have {len(labels):,} labels",
            slug="broken-idx",
            where=str(labels_path),
        )
    if pictures.shape[1:] != (28, 28):
        size = " x ".join(map(str, pictures.shape[1:]))
        raise DataError(
            f"the pictures are {size}, not 28 x 28", slug="broken-idx", where=str(folder)
        )
    if labels.max() >= len(CLASSES):
        raise DataError(
            f"label {labels.max()} is not one of 0 to {len(CLASSES) - 1}",
            slug="label-range",
            where=str(labels_path),
        )
    return normalise(pictures.unsqueeze(1)), labels


def normalise(pictures: Tensor) -> Tensor:
    """Return bytes as floats around 0; mean and deviation are those of the training pictures."""
    return (pictures.float() / 255 - 0.286) / 0.353


def read_pictures(source: str) -> Iterator[tuple[str, Tensor]]:
    """Yield each picture of a file or folder, light on dark, brought to 28x28."""
    for path in picture_files(Path(source)):
        yield str(path), normalise(read_picture(path, 28, mode="L"))


def most_likely(logits: Tensor) -> dict[str, str | float]:
    """Return the answer for one picture; ``logits`` has shape (10,)."""
    probability, label = logits.softmax(0).max(0)
    return {"label": CLASSES[int(label)], "probability": round(probability.item(), 4)}
