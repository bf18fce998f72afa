"""A small causal transformer that learns to write like a text file.

Shapes: B samples, T characters, C width, H heads, V characters of the vocabulary.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

import loopwright as lw
from loopwright.errors import DataError, UsageError
from loopwright.recipes.lines import lines_of


@lw.recipe
def char_lm(
    data: Path,
    lr: float = 3e-3,
    batch_size: int = 16,
    context: int = 64,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    dropout: float = 0.0,
    weight_decay: float = 0.1,
    prompt: str = "",
    seed: int = 0,
) -> lw.Job:
    """Learn to write like a text file, one character after the other.

    The first 90 % of the text is for training, the next 5 % for validation, the last 5 % for the test.

    Args:
        data: a text file in UTF-8, the longer the better.
        lr: learning rate of AdamW.
        batch_size: windows of text per update.
        context: characters that the model looks back at.
        width: size of a character's vector; a multiple of heads.
        layers: number of transformer blocks.
        heads: attention heads per block.
        dropout: share of activations that are zeroed while training, 0 to 1.
        weight_decay: of AdamW, for the weight matrices.
        prompt: what the sample at the end of the run begins with; else the text's first character.
        seed: of the initial weights and the windows.
    """
    if width % heads or (width // heads) % 2:
        raise UsageError(
            f"width={width} is not an even number of times heads={heads}", slug="recipe-parameter"
        )
    text = read_text(data, context)
    model = CharModel(sorted(set(text)), context, width, layers, heads, dropout)
    tokens = model.encode(text)
    beginning = prompt or text[0]
    model.encode(beginning)  # a character that the text does not have is refused now
    train, valid, test = tokens.tensor_split([int(len(tokens) * 0.9), int(len(tokens) * 0.95)])

    # An epoch draws as many windows, at random places, as lie in the training text side by side.
    windows = Windows(train, context, stride=1)
    sampler = RandomSampler(windows, replacement=True, num_samples=len(train) // context)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    return lw.Job(
        model=model,
        optimizer=torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=lr,
            betas=(0.9, 0.99),
        ),
        criterion=next_character_loss,
        train_loader=DataLoader(windows, batch_size=batch_size, sampler=sampler),
        valid_loader=DataLoader(Windows(valid, context, stride=context), batch_size=128),
        test_loader=DataLoader(Windows(test, context, stride=context), batch_size=128),
        scheduler=lw.warmup_cosine(final=0.1),
        clip=1.0,
        epochs=2,
        keep_best=("valid_loss", "min"),
        finish=lambda run: sample(run.model, beginning, length=500, seed=seed),
        read=lambda source: (
            (name, model.encode(line)[-context:]) for name, line in lines_of(source)
        ),
        answer=lambda logits: likely_next(logits, model.characters),
    )


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Stretches of text, each with the same stretch one character later as its target."""

    def __init__(self, tokens: Tensor, context: int, stride: int) -> None:
        self.tokens, self.context, self.stride = tokens, context, stride

    def __len__(self) -> int:
        return (len(self.tokens) - self.context - 1) // self.stride + 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        window = self.tokens[index * self.stride :][: self.context + 1]
        return window[:-1], window[1:]


class CharModel(nn.Module):
    """Character vectors, blocks, a linear layer to the next character: tokens (B, T), logits (B, T, V)."""

    def __init__(
        self,
        characters: list[str],
        context: int,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.context = context
        # A buffer, so that the vocabulary is saved with the weights that belong to it.
        self.register_buffer(
            "characters", torch.tensor([ord(character) for character in characters])
        )
        self.embedding = nn.Embedding(len(characters), width)
        self.blocks = nn.Sequential(*[Block(width, heads, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, len(characters), bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.zeros_(self.head.weight)  # all characters equally likely at first: loss = ln V

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the character after each of the tokens."""
        x = self.embedding(tokens)
        return self.head(self.norm(self.blocks(x)))

    def encode(self, text: str) -> Tensor:
        """Return the tokens of a text, int64 of shape (T,).

        Raises:
            DataError: a character that the training text does not have.
        """
        number = {chr(code): index for index, code in enumerate(self.characters.tolist())}
        unknown = sorted(set(text) - set(number))
        if unknown:
            raise DataError(f"the model has never seen {unknown[0]!r}", slug="unknown-character")
        return torch.tensor([number[character] for character in text])

    def decode(self, tokens: Tensor) -> str:
        """Return the text of tokens of shape (T,)."""
        return "".join(chr(code) for code in self.characters[tokens].tolist())


class Block(nn.Module):
    """Attention to what came before, then a two-layer perceptron; both add to their input (B, T, C)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, C)."""
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, H, T, C / H)
            for part in self.query_key_value(self.attention_norm(x)).chunk(3, dim=2)
        )
        q, k = rotate(q), rotate(k)
        attended = (
            nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            .transpose(1, 2)
            .flatten(2)
        )
        x = x + self.dropout(self.attention_out(attended))
        return x + self.mlp(x)


def rotate(x: Tensor) -> Tensor:
    """Turn each pair of features (B, H, T, C / H) by an angle that grows with the position.

    Products of queries and keys then depend on how far apart two characters are.

    Source: Su et al. 2021, arXiv:2104.09864.
    """
    half = x.shape[3] // 2
    speed = 1000.0 ** -(torch.arange(half, device=x.device) / half)
    angle = torch.arange(x.shape[2], device=x.device)[:, None] * speed
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, dim=3)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=3)


def next_character_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy per character in nats; logits (B, T, V), targets (B, T)."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def read_text(path: Path, context: int) -> str:
    """Return the text of a file that is long enough to be divided in three.

    Raises:
        UsageError: there is no such file, or it is shorter than 40 windows.
        DataError: it is not UTF-8.
    """
    if not path.is_file():
        what = f"{path} is not a file" if path.exists() else f"there is no file {path}"
        raise UsageError(what, slug="no-data", hint="any text file will do")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"the file is not UTF-8 text: {error}", slug="not-text", where=str(path)
        ) from None
    if len(text) < 40 * context:
        raise UsageError(
            f"{path} has {len(text)} characters; context={context} needs {40 * context} at least",
            slug="too-few-samples",
            hint="a longer text, or a smaller --context",
        )
    return text


@torch.no_grad()
def sample(model: CharModel, prompt: str, length: int, seed: int) -> str:
    """Return the prompt and ``length`` characters after it, drawn one by one from the model."""
    generator = torch.Generator().manual_seed(seed)
    was_training = model.training
    model.eval()
    tokens = model.encode(prompt)
    for _ in range(length):
        logits = model(tokens[None, -model.context :].to(model.characters.device))[0, -1]
        drawn = torch.multinomial(logits.float().softmax(0).cpu(), 1, generator=generator)
        tokens = torch.cat([tokens, drawn])
    model.train(was_training)
    return model.decode(tokens)


def likely_next(logits: Tensor, characters: Tensor) -> dict[str, str | float]:
    """Return the most likely next character; logits (T, V)."""
    probability, token = logits[-1].softmax(0).max(0)
    return {"next": chr(characters[token]), "probability": round(probability.item(), 4)}
