"""Tagger over sentences of different lengths."""
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

PAD = 0
torch.manual_seed(0)


def make(count):
    rows = []
    for _ in range(count):
        n = int(torch.randint(3, 20, ()))
        words = torch.randint(1, 40, (n,))
        rows.append((words, words % 4 + 1))
    return rows


def collate(rows):
    words = pad_sequence([w for w, _ in rows], batch_first=True, padding_value=PAD)
    tags = pad_sequence([t for _, t in rows], batch_first=True, padding_value=PAD)
    return words, tags, torch.tensor([len(w) for w, _ in rows])


class Tagger(nn.Module):
    def __init__(self, vocab=40, tags=5):
        super().__init__()
        self.embed = nn.Embedding(vocab, 16, padding_idx=PAD)
        self.rnn = nn.GRU(16, 16, bidirectional=True, batch_first=True)
        self.out = nn.Linear(32, tags)

    def forward(self, words, lengths):
        packed = pack_padded_sequence(self.embed(words), lengths, batch_first=True, enforce_sorted=False)
        out, _ = self.rnn(packed)
        out, _ = pad_packed_sequence(out, batch_first=True)
        return self.out(out)


def loss_of(logits, tags):
    return nn.functional.cross_entropy(logits.transpose(1, 2), tags, ignore_index=PAD)


def fit(model, loader, epochs=3):
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(epochs):
        for words, tags, lengths in loader:
            loss = loss_of(model(words, lengths), tags)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())


fit(Tagger(), DataLoader(make(256), batch_size=16, shuffle=True, collate_fn=collate))
