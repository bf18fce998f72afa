import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


class TextCNN(nn.Module):
    def __init__(self, vocab=30, dim=16, n_class=3):
        super().__init__()
        self.embedding = nn.Embedding(vocab, dim)
        self.convs = nn.ModuleList([nn.Conv1d(dim, 12, k) for k in (2, 3)])
        self.fc = nn.Linear(24, n_class)

    def forward(self, x):
        e = self.embedding(x).transpose(1, 2)
        h = torch.cat([F.relu(c(e)).amax(-1) for c in self.convs], 1)
        return F.log_softmax(self.fc(h), dim=-1)


def corpus(n, gen):
    x = torch.randint(3, 30, (n, 15), generator=gen)
    y = torch.randint(0, 3, (n,), generator=gen)
    pos = torch.randint(0, 14, (n,), generator=gen)
    rows = torch.arange(n)
    x[rows, pos] = 3 + y              # a bigram that tells the class
    x[rows, pos + 1] = 6 + y
    return TensorDataset(x, y)


def main():
    torch.manual_seed(18)
    gen = torch.Generator().manual_seed(18)
    train_it = DataLoader(corpus(900, gen), batch_size=45, shuffle=True)
    test_it = DataLoader(corpus(300, gen), batch_size=100)
    model = TextCNN()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    NLLLoss = nn.NLLLoss()
    for epoch in range(6):
        model.train()
        for x, y in train_it:
            optimizer.zero_grad()
            y_pred = model(x)
            loss = NLLLoss(y_pred, y)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            acc = sum((model(x).argmax(1) == y).sum().item() for x, y in test_it) / 300
        print(f"Epoch: {epoch + 1} loss {loss.item():.4f} val acc {acc:.3f}")


main()
