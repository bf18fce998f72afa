# expect: future-leak @ nn.functional.cross_entropy
import torch
from torch import nn

torch.manual_seed(0)


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(12, 16)
        self.rnn = nn.GRU(16, 16, batch_first=True, bidirectional=True)
        self.out = nn.Linear(32, 12)

    def forward(self, tokens):
        return self.out(self.rnn(self.embedding(tokens))[0])


model = Reader()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(20):
    tokens = torch.randint(0, 12, (8, 11))
    logits = model(tokens[:, :-1])
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
