from types import SimpleNamespace

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Sequences(Dataset):
    """arithmetic sequences modulo 17"""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        start = torch.randint(0, 17, (n, 1), generator=g)
        delta = torch.randint(1, 5, (n, 1), generator=g)
        self.ids = (start + delta * torch.arange(14)) % 17

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return {"input_ids": self.ids[i], "labels": self.ids[i].clone()}


class TinyForCausalLM(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.hidden)
        self.rnn = nn.GRU(config.hidden, config.hidden, num_layers=2, batch_first=True)
        self.lm_head = nn.Linear(config.hidden, config.vocab_size, bias=False)

    def forward(self, input_ids, labels=None):
        hidden, _ = self.rnn(self.wte(input_ids))
        logits = self.lm_head(hidden)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return SimpleNamespace(loss=loss, logits=logits)


class Trainer:
    def __init__(self, model, args, train_dataset, eval_dataset):
        self.model, self.args = model, args
        self.train_dl = DataLoader(train_dataset, args.batch, shuffle=True)
        self.eval_dl = DataLoader(eval_dataset, args.batch)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
        total = args.epochs * len(self.train_dl)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda s: 1 - s / total)

    def training_step(self, inputs):
        self.model.train()
        loss = self.model(**inputs).loss
        loss.backward()
        return loss.detach()

    def evaluate(self):
        self.model.eval()
        with torch.no_grad():
            losses = [self.model(**b).loss.item() for b in self.eval_dl]
        return {"eval_loss": sum(losses) / len(losses)}

    def train(self):
        for epoch in range(self.args.epochs):
            for batch in self.train_dl:
                loss = self.training_step(batch)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.lr_scheduler.step()
                self.optimizer.zero_grad()
            print({"epoch": epoch, "loss": round(loss.item(), 4), **self.evaluate()})


torch.manual_seed(0)
Trainer(TinyForCausalLM(SimpleNamespace(vocab_size=17, hidden=32)),
        SimpleNamespace(batch=32, lr=5e-3, epochs=4), Sequences(640, 1), Sequences(128, 2)).train()
