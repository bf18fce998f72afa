import torch
import torch.nn as nn

torch.manual_seed(6)
text = "the quick brown fox jumps over the lazy dog and runs away from the quick dog again " * 12
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])


class CharGRU(nn.Module):
    def __init__(self, vocab, emb=24, hid=64):
        super().__init__()
        self.emb = nn.Embedding(vocab, emb)
        self.gru = nn.GRU(emb, hid, batch_first=True)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(hid, vocab)

    def forward(self, x, h=None):
        y, h = self.gru(self.emb(x), h)
        return self.out(self.drop(y)), h

    @torch.no_grad()
    def sample(self, start, n):
        self.eval()
        idx, h, out = torch.tensor([[stoi[start]]]), None, start
        for _ in range(n):
            logits, h = self(idx, h)
            idx = torch.multinomial(torch.softmax(logits[:, -1], -1), 1)
            out += chars[idx.item()]
        self.train()
        return out


def get_batch(bs=16, length=24):
    ix = torch.randint(0, len(data) - length - 1, (bs,))
    x = torch.stack([data[i:i + length] for i in ix])
    y = torch.stack([data[i + 1:i + length + 1] for i in ix])
    return x, y


model = CharGRU(len(chars))
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
criterion = nn.CrossEntropyLoss()
model.train()
for it in range(1, 181):
    x, y = get_batch()
    logits, _ = model(x)
    loss = criterion(logits.reshape(-1, len(chars)), y.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if it % 60 == 0:
        print(it, f"{loss.item():.3f}", repr(model.sample("t", 30)))
