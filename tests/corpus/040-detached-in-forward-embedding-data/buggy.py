import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(1)

POS = "good great fine superb lovely happy".split()
NEG = "bad awful poor boring sad ugly".split()
FILL = "the movie was a film and plot actor scene very it this of".split()
vocab = {w: i + 1 for i, w in enumerate(POS + NEG + FILL)}


class Reviews(Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.samples = []
        for _ in range(n):
            label = torch.randint(0, 2, (1,), generator=g).item()
            words = [FILL[i] for i in torch.randint(0, len(FILL), (7,), generator=g)]
            source = POS if label else NEG
            words.insert(3, source[torch.randint(0, 6, (1,), generator=g).item()])
            self.samples.append((torch.tensor([vocab[w] for w in words]), label))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]


class TextClassifier(nn.Module):
    def __init__(self, vocab_size, embed_dim, num_class):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.fc = nn.Linear(embed_dim, num_class)

    def forward(self, text):
        embedded = self.embedding(text).data.mean(dim=1)
        return self.fc(embedded)


model = TextClassifier(len(vocab) + 1, 12, 2)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
train_dl = DataLoader(Reviews(600, 1), batch_size=20, shuffle=True)
test_dl = DataLoader(Reviews(200, 2), batch_size=100)
for epoch in range(6):
    model.train()
    for text, label in train_dl:
        optimizer.zero_grad()
        loss = criterion(model(text), label)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        correct = sum((model(t).argmax(1) == l).sum().item() for t, l in test_dl)
    print(f"| epoch {epoch} | loss {loss.item():.3f} | accuracy {correct / 200:.3f}")
