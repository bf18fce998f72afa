from dataclasses import dataclass
from typing import Dict, Iterator, List

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


@dataclass
class TrainingArguments:
    learning_rate: float = 1.0
    num_train_epochs: int = 3
    per_device_batch_size: int = 16
    gradient_accumulation_steps: int = 2
    max_grad_norm: float = 1.0
    warmup_steps: int = 5
    fp16: bool = True
    seed: int = 42


class KeywordDataset(Dataset):
    """Bag-of-tokens classification: which of three key tokens appears."""

    def __init__(self, n: int, seed: int):
        g = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 3, (n,), generator=g)
        self.input_ids = torch.randint(3, 60, (n, 12), generator=g)
        pos = torch.randint(0, 12, (n,), generator=g)
        self.input_ids[torch.arange(n), pos] = self.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i) -> Dict[str, torch.Tensor]:
        return {"input_ids": self.input_ids[i], "labels": self.labels[i]}


class BagModel(nn.Module):
    def __init__(self, vocab=60, dim=32, classes=3):
        super().__init__()
        self.embeddings = nn.Embedding(vocab, dim)
        self.dense = nn.Linear(dim, dim)
        self.classifier = nn.Linear(dim, classes)
        self.loss_fct = nn.CrossEntropyLoss()

    def forward(self, input_ids, labels=None):
        pooled = self.embeddings(input_ids).amax(dim=1)
        logits = self.classifier(torch.tanh(self.dense(pooled)))
        return {"loss": self.loss_fct(logits, labels) if labels is not None else None, "logits": logits}


class Trainer:
    def __init__(self, model, args: TrainingArguments, train_dataset, eval_dataset):
        self.model, self.args = model, args
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.optimizer = torch.optim.SGD(model.parameters(), lr=args.learning_rate)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda s: min(1.0, (s + 1) / args.warmup_steps))
        self.scaler = torch.amp.GradScaler("cpu", enabled=args.fp16, init_scale=2.0 ** 12)

    def compute_loss(self, inputs):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.args.fp16):
            return self.model(**inputs)["loss"]

    def train(self):
        a = self.args
        loader = DataLoader(self.train_dataset, batch_size=a.per_device_batch_size, shuffle=True)
        for epoch in range(a.num_train_epochs):
            self.model.train()
            tr_loss = 0.0
            for step, inputs in enumerate(loader):
                loss = self.compute_loss(inputs) / a.gradient_accumulation_steps
                self.scaler.scale(loss).backward()
                tr_loss += loss.item() * a.gradient_accumulation_steps
                if (step + 1) % a.gradient_accumulation_steps == 0:
                    if a.max_grad_norm > 0:
                        nn.utils.clip_grad_norm_(self.model.parameters(), a.max_grad_norm)
                    self.scaler.step(self.optimizer)
                    self.scaler.update()
                    self.lr_scheduler.step()
                    self.optimizer.zero_grad()
            print({"epoch": epoch, "loss": round(tr_loss / len(loader), 4), **self.evaluate()})

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        hits = 0
        for batch in DataLoader(self.eval_dataset, batch_size=128):
            hits += (self.model(**batch)["logits"].argmax(-1) == batch["labels"]).sum().item()
        return {"eval_accuracy": round(hits / len(self.eval_dataset), 4)}


if __name__ == "__main__":
    args = TrainingArguments()
    torch.manual_seed(args.seed)
    Trainer(BagModel(), args, KeywordDataset(960, 1), KeywordDataset(256, 2)).train()
