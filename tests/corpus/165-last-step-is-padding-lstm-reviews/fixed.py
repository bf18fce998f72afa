"""Sentiment with an LSTM over padded sequences."""
import random

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

random.seed(0)
torch.manual_seed(0)


class Reviews(Dataset):
    def __init__(self, count=256):
        self.rows = []
        for _ in range(count):
            n = random.randint(4, 18)
            tokens = torch.randint(1, 50, (n,))
            self.rows.append((tokens, int((tokens > 25).float().mean() > 0.5)))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def collate(rows):
    tokens, labels = zip(*rows)
    lengths = torch.tensor([len(t) for t in tokens])
    return pad_sequence(tokens, batch_first=True), lengths, torch.tensor(labels)


class SentimentLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.classify = nn.Linear(24, 2)

    def forward(self, tokens, lengths):
        out, _ = self.lstm(self.embed(tokens))
        last = out[torch.arange(len(out)), lengths - 1]
        return self.classify(last)


model = SentimentLSTM()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
criterion = nn.CrossEntropyLoss()
loader = DataLoader(Reviews(), batch_size=32, shuffle=True, collate_fn=collate)
for epoch in range(4):
    hits = 0
    for tokens, lengths, labels in loader:
        optimizer.zero_grad()
        logits = model(tokens, lengths)
        loss = criterion(logits, labels)
        loss.backward()
        optimizer.step()
        hits += (logits.argmax(1) == labels).sum().item()
    print(epoch, hits / 256)
