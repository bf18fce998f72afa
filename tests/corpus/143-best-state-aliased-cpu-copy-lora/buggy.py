"""LoRA fine-tuning of a frozen text classifier; the adapters of the best epoch are kept."""
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


class LoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, rank: int = 4, alpha: float = 8.0) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.empty(rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + (x @ self.down.T @ self.up.T) * self.scale


def adapt(module: nn.Module, rank: int) -> nn.Module:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, LoRALinear(child, rank))
        else:
            adapt(child, rank)
    return module


class Classifier(nn.Module):
    def __init__(self, vocab=60, d=24, classes=3):
        super().__init__()
        self.emb = nn.EmbeddingBag(vocab, d, mode="mean")
        self.body = nn.Sequential(nn.Linear(d, 48), nn.SiLU(), nn.Linear(48, d), nn.SiLU())
        self.out = nn.Linear(d, classes)

    def forward(self, tokens):
        return self.out(self.body(self.emb(tokens)))


def corpus(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (n,), generator=g)
    tokens = torch.randint(60, (n, 12), generator=g)
    hint = torch.randint(20, (n, 12), generator=g) + 20 * y[:, None]
    keep = torch.rand(n, 12, generator=g) < 0.25
    return torch.where(keep, hint, tokens), y


@dataclass
class Best:
    """Adapter weights of the epoch with the highest validation accuracy."""

    accuracy: float = -1.0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, model: nn.Module, accuracy: float) -> None:
        if accuracy <= self.accuracy:
            return
        self.accuracy = accuracy
        self.weights = {
            name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad
        }

    def restore(self, model: nn.Module) -> None:
        missing, unexpected = model.load_state_dict(self.weights, strict=False)
        assert not unexpected
        assert all("base" in m or "emb" in m for m in missing)


def main() -> None:
    torch.manual_seed(3)
    x, y = corpus(600, 0)
    xv, yv = corpus(300, 1)
    model = Classifier().requires_grad_(False)
    model = adapt(model, rank=4)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    best = Best()
    for epoch in range(8):
        model.train()
        for index in torch.randperm(len(x)).split(40):
            loss = nn.functional.cross_entropy(model(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            accuracy = (model(xv).argmax(-1) == yv).float().mean().item()
        best.offer(model, accuracy)
        print(f"{epoch}: {loss.item():.3f} {accuracy:.3f}")
    best.restore(model)
    with torch.inference_mode():
        print("restored", (model(xv).argmax(-1) == yv).float().mean().item())


if __name__ == "__main__":
    main()
