import math
from dataclasses import dataclass, field
from types import SimpleNamespace
import torch
import torch.nn as nn
from torch.utils.data import DataLoader


@dataclass
class TrainingArguments:
    learning_rate: float = 5e-3
    per_device_train_batch_size: int = 32
    num_train_epochs: int = 3
    warmup_steps: int = 6
    max_grad_norm: float = 1.0
    weight_decay: float = 0.01
    log: list = field(default_factory=list)


class CausalLM(nn.Module):
    def __init__(self, v=16, d=32):
        super().__init__()
        self.emb, self.rnn, self.head = nn.Embedding(v, d), nn.LSTM(d, d, batch_first=True), nn.Linear(d, v)

    def forward(self, input_ids, labels=None):
        logits = self.head(self.rnn(self.emb(input_ids))[0])
        loss = None
        if labels is not None:           # labels are the input ids; the shift happens here
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return SimpleNamespace(loss=loss, logits=logits)


class Trainer:
    def __init__(self, model, args, train_dataset, data_collator):
        self.model, self.args = model, args
        self.dl = DataLoader(train_dataset, args.per_device_train_batch_size, shuffle=True, collate_fn=data_collator)
        groups = [{"params": [p for n, p in model.named_parameters() if "bias" not in n], "weight_decay": args.weight_decay},
                  {"params": [p for n, p in model.named_parameters() if "bias" in n], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=args.learning_rate)
        self.total = args.num_train_epochs * len(self.dl)
        warm = args.warmup_steps
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda s: min((s + 1) / warm, max(0.0, (self.total - s) / (self.total - warm))))

    def train(self):
        self.model.zero_grad()
        for epoch in range(self.args.num_train_epochs):
            for inputs in self.dl:
                self.model.train()
                loss = self.model(**inputs).loss
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm)
                self.optimizer.step()
                self.lr_scheduler.step()
                self.model.zero_grad()
            print({"epoch": epoch, "ppl": round(math.exp(loss.item()), 3), "lr": self.lr_scheduler.get_last_lr()[0]})


torch.manual_seed(65)
ids = (torch.randint(0, 16, (320, 1)) + torch.randint(1, 4, (320, 1)) * torch.arange(12)) % 16
Trainer(CausalLM(), TrainingArguments(), list(ids),
        lambda rows: {"input_ids": torch.stack(rows), "labels": torch.stack(rows).clone()}).train()
