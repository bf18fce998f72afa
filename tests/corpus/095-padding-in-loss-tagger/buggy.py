import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence, pack_padded_sequence, pad_packed_sequence
from torch.utils.data import DataLoader

PAD = 0


def sentences(n, seed):
    g = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(n):
        length = int(torch.randint(3, 20, (1,), generator=g))
        words = torch.randint(1, 25, (length,), generator=g)
        prev = torch.cat([torch.zeros(1, dtype=torch.long), words[:-1]])
        tags = 1 + (words + prev) % 4          # 0 is the pad tag
        out.append((words, tags))
    return out


def collate(batch):
    words, tags = zip(*batch)
    lengths = torch.tensor([len(w) for w in words])
    return (pad_sequence(words, batch_first=True, padding_value=PAD),
            pad_sequence(tags, batch_first=True, padding_value=PAD), lengths)


class Tagger(nn.Module):
    def __init__(self, vocab=25, dim=24, tags=5):
        super().__init__()
        self.emb = nn.Embedding(vocab, dim, padding_idx=PAD)
        self.lstm = nn.LSTM(dim, dim, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * dim, tags)

    def forward(self, words, lengths):
        packed = pack_padded_sequence(self.emb(words), lengths, batch_first=True, enforce_sorted=False)
        h, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.fc(h)


torch.manual_seed(9)
train = DataLoader(sentences(500, 1), batch_size=25, shuffle=True, collate_fn=collate)
test = DataLoader(sentences(100, 2), batch_size=50, collate_fn=collate)
model = Tagger()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(5):
    model.train()
    for words, tags, lengths in train:
        optimizer.zero_grad()
        scores = model(words, lengths)
        loss = criterion(scores.view(-1, 5), tags.view(-1))
        loss.backward()
        optimizer.step()
    model.eval()
    hit = n = 0
    with torch.no_grad():
        for words, tags, lengths in test:
            mask = tags != PAD
            hit += (model(words, lengths).argmax(-1)[mask] == tags[mask]).sum().item()
            n += mask.sum().item()
    print(f"epoch {epoch} loss {loss.item():.3f} token accuracy {hit / n:.3f}")
