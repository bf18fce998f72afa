"""Fine-tuning a small encoder with layer-wise learning rates and activations computed anew."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Encoder(nn.Module):
    def __init__(self, words=60, d=24, depth=3, classes=4):
        super().__init__()
        self.embedding = nn.Embedding(words, d)
        self.blocks = nn.ModuleList(Block(d) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, classes)

    def forward(self, words):
        h = self.embedding(words)
        for block in self.blocks:
            h = checkpoint(block, h, use_reentrant=False)
        return self.head(self.norm(h).mean(dim=1))


def parameter_groups(model, lr=2e-3, decay=0.7):
    groups = [{"params": [*model.norm.parameters(), *model.head.parameters()], "lr": lr}]
    for depth, block in enumerate(reversed(model.blocks), start=1):
        groups.append({"params": list(block.parameters()), "lr": lr * decay**depth})
    return groups


def finetune(model, words, labels, steps=60, batch_size=32):
    model.embedding.requires_grad_(False)
    optimizer = torch.optim.AdamW(parameter_groups(model), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    model.train()
    for step in range(steps):
        index = torch.randint(0, len(words), (batch_size,))
        loss = F.cross_entropy(model(words[index]), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 19:
            print(f"{step + 1}: {loss.item():.4f}")


def main():
    torch.manual_seed(0)
    words = torch.randint(0, 60, (800, 12))
    labels = ((words < 15).sum(1) - 1).clamp(0, 3)
    finetune(Encoder(), words, labels)


if __name__ == "__main__":
    main()
