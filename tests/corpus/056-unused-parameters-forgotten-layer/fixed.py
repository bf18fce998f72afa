import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


class AttentionPooling(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.score = nn.Linear(dim, 1)

    def forward(self, h):
        w = torch.softmax(self.score(h), dim=1)
        return (w * h).sum(1)


class SequenceClassifier(nn.Module):
    def __init__(self, n_tokens, dim, n_classes):
        super().__init__()
        self.emb = nn.Embedding(n_tokens, dim)
        self.gru = nn.GRU(dim, dim, batch_first=True)
        self.pool = AttentionPooling(dim)
        self.drop = nn.Dropout(0.1)
        self.cls = nn.Linear(dim, n_classes)

    def forward(self, tokens):
        h, _ = self.gru(self.emb(tokens))
        pooled = self.pool(h)
        return self.cls(self.drop(pooled))


def generate(n, g):
    seq = torch.randint(0, 12, (n, 14), generator=g)
    # class: which of the tokens 0, 1, 2 occurs most often (ties -> smallest)
    counts = torch.stack([(seq == k).sum(1) for k in range(3)], 1)
    return TensorDataset(seq, counts.argmax(1))


if __name__ == "__main__":
    torch.manual_seed(25)
    g = torch.Generator().manual_seed(25)
    train, valid = generate(1000, g), generate(300, g)
    model = SequenceClassifier(12, 24, 3)
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(5):
        model.train()
        for seq, y in DataLoader(train, batch_size=50, shuffle=True):
            loss = F.cross_entropy(model(seq), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        model.eval()
        with torch.no_grad():
            correct = sum((model(s).argmax(-1) == y).sum().item() for s, y in DataLoader(valid, batch_size=100))
        print(f"epoch {epoch}: loss {loss.item():.3f} accuracy {correct / len(valid):.3f}")
