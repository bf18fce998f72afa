"""An endless stream of length-sorted buckets, evaluation every so many steps, weights of the best kept on the side."""
import itertools
import random

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler


class Parity(Dataset):
    def __init__(self, n, seed):
        rng = random.Random(seed)
        self.items = [[rng.randint(1, 4) for _ in range(rng.randint(3, 14))] for _ in range(n)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return torch.tensor(self.items[i]), float(self.items[i].count(4) > 2)


class Buckets(Sampler):
    """Batches of similar length, in an order that differs in every pass."""

    def __init__(self, data, size, seed):
        order = sorted(range(len(data)), key=lambda i: len(data.items[i]))
        self.batches = [order[i : i + size] for i in range(0, len(order), size)]
        self.rng = random.Random(seed)

    def __iter__(self):
        batches = self.batches[:]
        self.rng.shuffle(batches)
        yield from batches

    def __len__(self):
        return len(self.batches)


def collate(rows):
    tokens, labels = zip(*rows)
    return pad_sequence(tokens, batch_first=True), torch.tensor([len(t) for t in tokens]), torch.tensor(labels)


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(5, 12, padding_idx=0)
        self.lstm = nn.LSTM(12, 24, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(48, 1)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(self.emb(tokens), lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.lstm(packed)
        return self.out(self.drop(torch.cat([h[0], h[1]], -1))).squeeze(-1)


def forever(loader):
    while True:
        yield from loader


def score(model, loader):
    was = model.training
    model.eval()
    with torch.no_grad():
        right = [((model(t, n) > 0) == (y > 0)).float().mean() for t, n, y in loader]
    model.train(was)
    return torch.stack(right).mean().item()


torch.manual_seed(2)
train, valid = Parity(480, 0), Parity(160, 1)
stream = forever(DataLoader(train, batch_sampler=Buckets(train, 24, 3), collate_fn=collate))
held_out = DataLoader(valid, 80, collate_fn=collate)
model = Reader().train()
opt = torch.optim.RMSprop(model.parameters(), lr=3e-3, momentum=0.5)
best, patience = (-1.0, None), 3
for step, (tokens, lengths, labels) in enumerate(itertools.islice(stream, 140), 1):
    loss = nn.functional.binary_cross_entropy_with_logits(model(tokens, lengths), labels)
    loss.backward()
    opt.step()
    opt.zero_grad()
    if step % 20 == 0:
        accuracy = score(model, held_out)
        print(step, f"{loss.item():.3f} {accuracy:.3f}")
        if accuracy > best[0]:
            best, patience = (accuracy, {k: v.clone() for k, v in model.state_dict().items()}), 3
        else:
            patience -= 1
            if not patience:
                break
model.load_state_dict(best[1])
print("best", score(model, held_out))
