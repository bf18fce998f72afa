"""Records as real runs leave them, made by formula: no torch, no clock, the same on every machine."""

from __future__ import annotations

import base64
import math
import random
import struct
import zlib

from loopwright.events import (
    CheckpointRow,
    Classification,
    EpochRow,
    LayerRow,
    ModelSummary,
    Outcome,
    PhaseTime,
    RunRecord,
    Series,
    Worst,
)

GLYPHS = {
    "3": "01110 10001 00110 00001 10001 01110",
    "4": "00010 00110 01010 11111 00010 00010",
    "5": "11111 10000 11110 00001 10001 01110",
    "8": "01110 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 01110",
}


def png(pixels: list[list[int]]) -> str:
    """A grey picture as a data URI."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", len(pixels[0]), len(pixels), 8, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + bytes(row) for row in pixels))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def digit(glyph: str, noise: random.Random) -> str:
    """An 8x8 scribble of a digit."""
    grid = [[0] * 8 for _ in range(8)]
    for i, bit in enumerate(GLYPHS[glyph].replace(" ", "")):
        if bit == "1":
            row, column = 1 + i // 5, 1 + i % 5
            grid[row][column] = min(255, grid[row][column] + 190 + noise.randrange(65))
            grid[row][column + 1] = min(255, grid[row][column + 1] + noise.randrange(120))
    return png(grid)


def digits() -> RunRecord:
    """A small classifier that went well: 12 epochs of 45 steps."""
    noise = random.Random(7)
    epochs, steps = 12, 45
    turns = list(range(1, epochs * steps + 1))
    decay = [0.02 + 2.28 * math.exp(-t / 62) for t in turns]
    loss = [d * math.exp(noise.gauss(0, 0.26)) + 0.012 * noise.random() for d in decay]
    lr = [0.01 * min(1, t / 30) * 0.5 * (1 + math.cos(math.pi * t / len(turns))) for t in turns]
    grad = [0.15 + 2.2 * math.exp(-t / 90) * math.exp(noise.gauss(0, 0.3)) for t in turns]
    rows = []
    for e in range(epochs):
        part = decay[e * steps : (e + 1) * steps]
        train = sum(part) / steps
        valid = 0.058 + 1.65 * math.exp(-(e + 1) / 1.55) + 0.0016 * max(0, e - 6) ** 1.4
        accuracy = 0.9833 - 0.52 * math.exp(-(e + 1) / 1.05) - 0.0011 * max(0, e - 8)
        values = {
            "train_loss": train,
            "train_accuracy": min(1.0, 1 - 0.56 * math.exp(-(e + 1) / 1.1)),
            "valid_loss": valid,
            "valid_accuracy": accuracy + noise.gauss(0, 0.0012),
        }
        rows.append(EpochRow(e, (e + 1) * steps, 0.61 + 0.05 * noise.random(), values))
    best = max(range(epochs), key=lambda e: rows[e].values["valid_accuracy"])
    return RunRecord(
        name="digits",
        folder="runs/digits/3",
        command=["loopwright", "train", "digits", "--epochs", "12", "--lr", "0.01"],
        started="2026-03-14T09:26:53+00:00",
        settings={
            "epochs": 12, "precision": "fp32", "accumulate": 1, "clip": 1.0, "compile": False,
            "device": "auto", "deterministic": False, "keep_best": ["valid_accuracy", "max"],
            "checkpoint": {"every_minutes": 10, "keep": 2},
        },
        recipe={
            "name": "digits", "file": None,
            "parameters": {"lr": 0.01, "batch_size": 32, "hidden": 128, "seed": 0},
        },
        environment={
            "python": "3.11.9", "torch": "2.13.0", "loopwright": "0.1.0", "device": "cpu",
            "threads": 2, "platform": "Linux x86_64",
            "git": {"commit": "4be1c0ffee21", "dirty": False},
        },
        outcome=Outcome("finished", "12 epochs done", 8.214),
        totals={"turns": 540, "updates": 540, "samples": 17244, "epochs": 12, "skipped": 0},
        series={
            "loss": Series("loss", turns, loss),
            "lr": Series("lr", turns, lr),
            "grad_norm": Series("grad_norm", turns, grad),
        },
        epochs=rows,
        best={
            "valid_accuracy": {
                "value": rows[best].values["valid_accuracy"], "turn": rows[best].turn, "epoch": best + 1,
            }
        },
        phases=[
            PhaseTime("fetch", 0.913), PhaseTime("transfer", 0.041), PhaseTime("zero_grad", 0.052),
            PhaseTime("forward", 1.874), PhaseTime("backward", 2.236), PhaseTime("step", 0.718),
            PhaseTime("item", 0.064),
        ],
        model=ModelSummary(
            "DigitsNet",
            [
                LayerRow("", "DigitsNet", [32, 10], 26122, 26122, 0),
                LayerRow("body", "Sequential", [32, 128], 24832, 24832, 1),
                LayerRow("body.0", "Flatten", [32, 64], 0, 0, 2),
                LayerRow("body.1", "Linear", [32, 128], 8320, 8320, 2),
                LayerRow("body.2", "GELU", [32, 128], 0, 0, 2),
                LayerRow("body.3", "Dropout", [32, 128], 0, 0, 2),
                LayerRow("body.4", "Linear", [32, 128], 16512, 16512, 2),
                LayerRow("body.5", "GELU", [32, 128], 0, 0, 2),
                LayerRow("head", "Linear", [32, 10], 1290, 1290, 1),
            ],
            26122, 26122, 104488, 51712,
        ),
        classifications=[confusion(noise)],
        checkpoints=[
            CheckpointRow("best", rows[best].turn, 105_120, "best valid_accuracy"),
            CheckpointRow("step-540", 540, 421_888, "end of the loop"),
            CheckpointRow("step-0", 0, 213_400, "before the first step"),
        ],
        notes=["The last batch of an epoch has 5 samples instead of 32."],
    )  # fmt: skip


def confusion(noise: random.Random) -> Classification:
    """Ten classes, six mistakes."""
    counts = [[0] * 10 for _ in range(10)]
    for i in range(10):
        counts[i][i] = 33 + noise.randrange(6)
    worst = []
    for target, predicted, p in ((8, 1, 0.004), (9, 3, 0.012), (3, 5, 0.031), (5, 9, 0.09),
                                 (8, 1, 0.18), (4, 7, 0.27)):  # fmt: skip
        counts[target][predicted] += 1
        counts[target][target] -= 1
        image = digit(str(target), noise)
        sure = (1 - p) * 0.97
        worst.append(
            Worst(noise.randrange(360), str(target), str(predicted), sure, -math.log(p), image)
        )
    return Classification("valid", [str(i) for i in range(10)], counts, worst)


def regression() -> RunRecord:
    """A table regression with early stopping, no classes, no model summary."""
    noise = random.Random(3)
    turns = list(range(1, 801))
    rows = [
        EpochRow(e, (e + 1) * 40, 0.2, {
            "train_loss": 0.3 + 4 * math.exp(-e / 3), "valid_loss": 0.41 + 4 * math.exp(-e / 2.7),
            "valid_rmse": 0.64 + 2 * math.exp(-e / 4), "valid_r2": 0.82 - 2.1 * math.exp(-e / 3),
        })
        for e in range(20)
    ]  # fmt: skip
    return RunRecord(
        name="house prices",
        command=["loopwright", "train", "table", "--data", "my houses.csv", "--target", "price"],
        started="2026-03-14T10:00:00+00:00",
        settings={"epochs": 60, "patience": 5},
        outcome=Outcome("stopped", "valid_loss did not improve for 5 epochs", 4.4),
        totals={"turns": 800, "updates": 800, "samples": 25600, "epochs": 20},
        series={
            "loss": Series("loss", turns, [0.3 + 4 * math.exp(-t / 120) + noise.random() * 0.4
                                           for t in turns]),
            "lr": Series("lr", turns, [0.001] * 800),
        },
        epochs=rows,
        samples=["ROMEO: So shaken as we are, so wan with care,\nFind we a time for <frighted> peace"],
    )  # fmt: skip


def failed() -> RunRecord:
    """A run whose loss became NaN at step 213."""
    turns = list(range(1, 221))
    loss = [2.3 * 1.004**t if t < 213 else math.nan for t in turns]
    loss[211] = math.inf
    return RunRecord(
        name="char-lm",
        command=["python", "train.py"],
        started="2026-03-14T11:00:00+00:00",
        outcome=Outcome(
            "failed", "the loss is NaN", 61.0,
            "NonFiniteError: train.py:48  the loss of step 213 is nan  [loss-not-finite]\n"
            "  hint: lower the learning rate, or clip=1.0",
        ),
        totals={"turns": 220, "updates": 212, "epochs": 1.4},
        series={
            "loss": Series("loss", turns, loss),
            "grad_norm": Series("grad_norm", turns, [1.02**t if t < 213 else math.nan for t in turns]),
        },
        epochs=[EpochRow(0, 150, 40.0, {"train_loss": 3.1, "valid_loss": math.nan})],
        phases=[PhaseTime("forward+loss", 30.0), PhaseTime("backward", 20.0)],
        notes=["3 steps were skipped: the loss was not finite."],
    )  # fmt: skip


def huge(points: int = 100_000, metrics: int = 200) -> RunRecord:
    """Many points, many metrics, many classes, many layers, hostile names."""
    noise = random.Random(1)
    evil = "</script><script>window.hacked=1</script><img src=x onerror=hacked=1>"
    turns = list(range(1, points + 1))
    classes = [f"class {i} {'λ' * (i % 5)}" for i in range(120)]
    counts = [
        [40 if i == j else int(noise.random() < 0.02) for j in range(120)] for i in range(120)
    ]
    names = [f"valid_metric_{i}" for i in range(metrics - 1)] + [f"valid_{evil}"]
    return RunRecord(
        name=f"run {evil} \u202e \ud800 " + "long" * 40,
        folder="runs/" + "deep/" * 60,
        command=["python", "-c", evil],
        started="yesterday",
        settings={evil: evil, "nested": {"a": {"b": [1, 2.5, None, True]}}, "nan": math.nan},
        environment={"python": "3.11"},
        outcome=Outcome("interrupted", evil, 98_765.0),
        totals={"turns": points, "updates": points, "samples": 3.2e9, "epochs": 30},
        series={
            name: Series(name, turns, [noise.random() * math.exp(-t / points) for t in turns])
            for name in ("loss", "lr", "grad_norm", "loss_d", "loss_g")
        },
        epochs=[
            EpochRow(e, (e + 1) * points // 30, 3292.0, {n: noise.random() for n in names})
            for e in range(30)
        ],
        best={evil: {"value": math.inf}, "valid_metric_3": {"value": 0.5, "turn": 10}},
        model=ModelSummary(
            evil,
            [LayerRow(".".join("b" * (1 + i % 6)) + str(i), "Block", [8, 1024, i], 10**9 + i, 0, i % 6)
             for i in range(3000)],
            3 * 10**12, 0, 12 * 10**12, 10**15,
        ),
        classifications=[Classification("test", classes, counts, [
            Worst(1, evil, classes[1], 0.1, 2.3, 'x" onerror="hacked=1', None),
            Worst(2, classes[2], classes[3], math.nan, math.inf, None, evil * 3),
        ])],
        checkpoints=[CheckpointRow(evil, 10**12, 10**15, evil)],
        samples=[evil, "\x00\x07 日本語 \u2028 🦊" * 50],
        notes=[evil],
    )  # fmt: skip


def empty() -> RunRecord:
    """A run that has done nothing yet."""
    return RunRecord(name="")
