"""Data made up in the format that a public program reads; each function is given the folder it starts in."""

from __future__ import annotations

import json
import pickle
import random
import string
from pathlib import Path

import numpy as np
import torch
from PIL import Image

WORDS = (
    "the",
    "a",
    "king",
    "queen",
    "ship",
    "sea",
    "dog",
    "runs",
    "sleeps",
    "sees",
    "old",
    "small",
    "and",
)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of a few words that follow each other more or less as they stand in WORDS."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        at, words = draw.randrange(len(WORDS)), []
        for _ in range(draw.randint(4, 12)):
            words.append(WORDS[at % len(WORDS)])
            at += draw.choice((1, 1, 2, 5))
        found.append(" ".join(words))
    return found


def text(folder: Path) -> None:
    """``input.txt``."""
    (folder / "input.txt").write_text("\n".join(["O God, O God!", *sentences(800)]) + "\n")


def names(folder: Path) -> None:
    """``names.txt``: a word a line."""
    draw = random.Random(0)
    syllables = [c + v for c in "bdgklmnrst" for v in "aeiou"]
    rows = ["".join(draw.choices(syllables, k=draw.randint(2, 4))) for _ in range(2000)]
    (folder / "names.txt").write_text("\n".join(rows) + "\n")


def shakespeare_char(folder: Path) -> None:
    """``data/shakespeare_char``: characters as uint16, and the alphabet."""
    target = folder / "data" / "shakespeare_char"
    whole = "\n".join(sentences(2000))
    letters = sorted(set(whole))
    number = {letter: index for index, letter in enumerate(letters)}
    values = np.array([number[letter] for letter in whole], dtype=np.uint16)
    cut = int(0.9 * len(values))
    values[:cut].tofile(target / "train.bin")
    values[cut:].tofile(target / "val.bin")
    meta = {"vocab_size": len(letters), "stoi": number, "itos": dict(enumerate(letters))}
    (target / "meta.pkl").write_bytes(pickle.dumps(meta))


def wikitext(folder: Path) -> None:
    """``data/wikitext-2``: words with spaces between them."""
    target = folder / "data" / "wikitext-2"
    target.mkdir(parents=True, exist_ok=True)
    for seed, name, count in ((0, "train", 900), (1, "valid", 100), (2, "test", 100)):
        (target / f"{name}.txt").write_text("\n".join(sentences(count, seed)) + "\n")


def penn(folder: Path) -> None:
    """``data/train.txt``: a sentence a line."""
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "train.txt").write_text("\n".join(sentences(600)) + "\n")


def _cora(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    nodes, words = 2708, 200
    kinds = draw.integers(0, 7, nodes)
    content = []
    for node in range(nodes):
        has = draw.random(words) < 0.02
        has[kinds[node] * 20 : kinds[node] * 20 + 20] |= draw.random(20) < 0.3
        content.append("\t".join([str(node), *map(str, has.astype(int)), f"kind_{kinds[node]}"]))
    (target / "cora.content").write_text("\n".join(content) + "\n")
    edges = []
    for node in range(nodes):
        same = np.flatnonzero(kinds == kinds[node])
        edges += [f"{node}\t{other}" for other in draw.choice(same, 3) if other != node]
    (target / "cora.cites").write_text("\n".join(edges) + "\n")


def cora(folder: Path) -> None:
    """``cora``: a graph of papers."""
    _cora(folder / "cora")


def cora_above(folder: Path) -> None:
    """``../data/cora``."""
    _cora(folder.parent / "data" / "cora")


def sines(folder: Path) -> None:
    """``traindata.pt``, as ``generate_sine_wave.py`` makes it."""
    draw = np.random.default_rng(2)
    x = np.arange(200)[None] + draw.integers(-80, 80, 20)[:, None]
    torch.save(np.sin(x / 20).astype("float64"), folder / "traindata.pt")


def pictures(target: Path, count: int, side: int, seed: int = 0) -> None:
    """Coloured boxes on noise."""
    target.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    for number in range(count):
        image = draw.integers(0, 90, (side, side, 3)).astype(np.uint8)
        top, left = draw.integers(0, side // 2, 2)
        image[top : top + side // 3, left : left + side // 3] = draw.integers(90, 255, 3)
        Image.fromarray(image).save(target / f"{number:04}.jpg")


def bsds300(folder: Path) -> None:
    """``dataset/BSDS300/images``."""
    root = folder / "dataset" / "BSDS300" / "images"
    pictures(root / "train", 64, 300)
    pictures(root / "test", 8, 300, seed=1)


def two_domains(folder: Path) -> None:
    """``data/monet2photo``: pictures of two kinds, for training and for testing."""
    for name, count in (("train", 24), ("test", 6)):
        for seed, domain in enumerate("AB"):
            target = (
                folder.parents[1] / "data" / "monet2photo" / (name if name == "test" else "train")
            )
            pictures(target / domain, count, 64, seed)


def coco(folder: Path) -> None:
    """``coco``: pictures with boxes."""
    draw = np.random.default_rng(0)
    (folder / "coco" / "annotations").mkdir(parents=True)
    for split, count in (("train2017", 24), ("val2017", 4)):
        images, boxes = [], []
        target = folder / "coco" / split
        target.mkdir()
        for number in range(count):
            pixels = draw.integers(0, 90, (96, 128, 3)).astype(np.uint8)
            for _ in range(2):
                left, top, kind = map(int, draw.integers((0, 0, 1), (80, 60, 4)))
                pixels[top : top + 24, left : left + 32, kind - 1] = 250
                box = {"id": len(boxes) + 1, "image_id": number, "category_id": kind}
                boxes.append({**box, "bbox": [left, top, 32, 24], "area": 768, "iscrowd": 0})
            images.append(
                {"id": number, "file_name": f"{number:04}.jpg", "height": 96, "width": 128}
            )
            Image.fromarray(pixels).save(target / f"{number:04}.jpg")
        kinds = [{"id": number, "name": string.ascii_letters[number]} for number in range(1, 4)]
        told = {"images": images, "annotations": boxes, "categories": kinds}
        (folder / "coco" / "annotations" / f"instances_{split}.json").write_text(json.dumps(told))
