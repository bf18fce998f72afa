"""Sentences of different lengths, packed, read from both sides by a GRU and classified."""
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader


class Reader(nn.Module):
    def __init__(self, words=40, d=16, hidden=24, classes=3):
        super().__init__()
        self.embedding = nn.Embedding(words, d, padding_idx=0)
        self.rnn = nn.GRU(d, hidden, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, words, lengths):
        packed = pack_padded_sequence(
            self.embedding(words), lengths, batch_first=True, enforce_sorted=False
        )
        _, h = self.rnn(packed)
        sentence = torch.cat([h[0], h[1]], dim=1)
        return self.head(self.drop(sentence))


class Sentences(torch.utils.data.Dataset):
    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        self.rows = []
        for _ in range(count):
            label = int(torch.randint(0, 3, (1,), generator=g))
            n = int(torch.randint(4, 15, (1,), generator=g))
            words = torch.randint(1, 40, (n,), generator=g)
            words[: n // 2] = words[: n // 2] % 13 + 1 + 13 * label
            self.rows.append((words.clamp(max=39), label))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def collate(rows):
    words, labels = zip(*rows)
    return pad_sequence(words, batch_first=True), torch.tensor([len(w) for w in words]), torch.tensor(labels)


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    right = sum((model(w, n).argmax(1) == y).sum().item() for w, n, y in loader)
    model.train()
    return right / len(loader.dataset)


def run(epochs=5):
    torch.manual_seed(0)
    training = DataLoader(Sentences(600, 1), 32, shuffle=True, collate_fn=collate)
    held_out = DataLoader(Sentences(150, 2), 50, collate_fn=collate)
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        for words, lengths, labels in training:
            optimizer.zero_grad()
            criterion(model(words, lengths), labels).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        print(epoch, accuracy(model, held_out))


if __name__ == "__main__":
    run()
