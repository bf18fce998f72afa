"""The work that every contestant does: a model, its optimizer, a data set, a criterion, a batch size.

Each is made anew from one seed, so that all contestants begin with the same weights and see batches of the
same size. Fashion-MNIST and tinyshakespeare are read from LOOPWRIGHT_DATA (or ../shared/data); a workload
whose data is not there is left out, and the output says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import TensorDataset

DATA = Path(os.environ.get("LOOPWRIGHT_DATA", Path(__file__).parents[3] / "shared" / "data"))


@dataclass
class Workload:
    """One training task; ``steps`` make a block of roughly a second."""

    name: str
    model: nn.Module
    optimizer: Callable[..., torch.optim.Optimizer]
    data: TensorDataset
    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    batch_size: int
    steps: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    warm: int = 200
    """Turns in which ``lw.fit`` records and proves its step, before the clock begins."""

    def settle(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class Missing(Exception):  # noqa: N818 - a workload that cannot be run here
    """The data of a workload is not there."""


def digits():
    """Multilayer perceptron 64-128-10 on the packaged digits, SGD."""
    from loopwright.recipes.digits import load_digits

    pixels, labels = load_digits()
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    return Workload(
        "digits MLP", model, lambda p: torch.optim.SGD(p, lr=0.1),
        TensorDataset(pixels, labels), nn.CrossEntropyLoss(), 32, 1000,
    )  # fmt: skip


def _fashion():
    from loopwright.recipes.idx import read_idx

    folder = DATA / "fashion-mnist"
    if not folder.is_dir():
        raise Missing(f"no {folder}")
    pixels = read_idx(folder / "train-images-idx3-ubyte.gz", 3).float() / 255
    return pixels, read_idx(folder / "train-labels-idx1-ubyte.gz", 1).long()


def fashion_mlp():
    """Multilayer perceptron 784-256-128-10 on Fashion-MNIST, Adam."""
    pixels, labels = _fashion()
    model = nn.Sequential(
        nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    return Workload(
        "Fashion MLP", model, lambda p: torch.optim.Adam(p, lr=1e-3),
        TensorDataset(pixels.flatten(1), labels), nn.CrossEntropyLoss(), 64, 300,
    )  # fmt: skip


def fashion_cnn():
    """Two convolutions with batch norm on Fashion-MNIST, Adam."""
    pixels, labels = _fashion()
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 49, 10),
    )  # fmt: skip
    return Workload(
        "Fashion CNN", model, lambda p: torch.optim.Adam(p, lr=1e-3),
        TensorDataset(pixels[:, None], labels), nn.CrossEntropyLoss(), 128, 30,
    )  # fmt: skip


class CharTransformer(nn.Module):
    """Four layers, 128 wide, causal."""

    def __init__(self, characters: int, length: int = 128, width: int = 128, layers: int = 4):
        super().__init__()
        self.embed = nn.Embedding(characters, width)
        self.place = nn.Parameter(torch.zeros(length, width))
        block = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, characters)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, x):
        """Return logits, one row a character."""
        h = self.embed(x) + self.place
        return self.head(self.blocks(h, mask=self.mask, is_causal=True))


def transformer():
    """Character transformer on tinyshakespeare, AdamW."""
    file = DATA / "tinyshakespeare" / "input.txt"
    if not file.is_file():
        raise Missing(f"no {file}")
    text = file.read_text()
    characters = sorted(set(text))
    index = {c: i for i, c in enumerate(characters)}
    tokens = torch.tensor([index[c] for c in text[: 129 * 4000]]).view(-1, 129)
    loss = nn.CrossEntropyLoss()
    return Workload(
        "char transformer", CharTransformer(len(characters)),
        lambda p: torch.optim.AdamW(p, lr=1e-3),
        TensorDataset(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()),
        lambda out, y: loss(out.flatten(0, 1), y.flatten()), 32, 3,
    )  # fmt: skip


class Bottleneck(nn.Module):
    """Three convolutions and a way around them."""

    def __init__(self, into: int, width: int, stride: int):
        super().__init__()
        out = 4 * width
        self.layers = nn.Sequential(
            nn.Conv2d(into, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.around = nn.Identity()
        if stride != 1 or into != out:
            self.around = nn.Sequential(
                nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        """Add the two ways."""
        return torch.relu(self.layers(x) + self.around(x))


def resnet():
    """Residual network of 50 layers on 224 x 224 pixels, SGD with momentum."""
    blocks, into = [], 64
    for number, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for place in range(depth):
            blocks.append(Bottleneck(into, width, 2 if number and not place else 1))
            into = 4 * width
    model = nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000),
    )  # fmt: skip
    return Workload(
        "ResNet-50", model, lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
        TensorDataset(torch.randn(512, 3, 224, 224), torch.randint(1000, (512,))),
        nn.CrossEntropyLoss(), 64, 10,
    )  # fmt: skip


def gpt2():
    """Transformer of GPT-2's smallest size, 124 million parameters, 4 x 1024 tokens, AdamW."""
    model = CharTransformer(50_257, 1024, 768, 12)
    for block in model.blocks.layers:
        block.self_attn.num_heads, block.self_attn.head_dim = 12, 64
    model.head.weight = model.embed.weight
    loss = nn.CrossEntropyLoss()
    tokens = torch.randint(50_257, (64, 1025))
    return Workload(
        "GPT-2", model, lambda p: torch.optim.AdamW(p, lr=3e-4),
        TensorDataset(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()),
        lambda out, y: loss(out.flatten(0, 1), y.flatten()), 4, 8,
    )  # fmt: skip


WORKLOADS = {
    "digits": digits,
    "fashion-mlp": fashion_mlp,
    "fashion-cnn": fashion_cnn,
    "transformer": transformer,
}
LARGE = {"resnet": resnet, "gpt2": gpt2}
"""For a GPU; numbers drawn at random in the place of data."""


ON_A_GPU = {
    "digits": (500, 200),
    "fashion-mlp": (450, 200), "fashion-cnn": (300, 200), "transformer": (150, 200),
    "resnet": (16, 30), "gpt2": (16, 30),
}  # fmt: skip
"""Steps and warm turns of workloads that are faster there."""


def flops_of(work: Workload) -> int:
    """Return the operations on floating-point numbers that matrices and convolutions take in a step."""
    from torch.utils.flop_counter import FlopCounterMode

    inputs, targets = (tensor[: work.batch_size].to(work.device) for tensor in work.data.tensors)
    kept = {name: value.clone() for name, value in work.model.state_dict().items()}
    with FlopCounterMode(display=False) as counter:
        work.criterion(work.model(inputs), targets).backward()
    work.model.zero_grad()
    work.model.load_state_dict(kept)
    return counter.get_total_flops()


def loss_of(work: Workload) -> float:
    """Return the loss over the first thousand samples, in eval mode: what the training came to."""
    was = work.model.training
    work.model.eval()
    with torch.no_grad():
        few = 1000 if work.name not in ("ResNet-50", "GPT-2") else 8
        inputs, targets = (tensor[:few].to(work.device) for tensor in work.data.tensors)
        loss = float(work.criterion(work.model(inputs), targets))
    work.model.train(was)
    return loss


def make(name: str, device: str = "cpu") -> Workload:
    """Return a workload with freshly seeded weights, its model on ``device``."""
    torch.manual_seed(0)
    work = (WORKLOADS | LARGE)[name]()
    work.device = torch.device(device)
    if device != "cpu":
        work.steps, work.warm = ON_A_GPU.get(name, (work.steps, work.warm))
    work.model.to(device)
    return work
