# expect: nothing
# Each word comes again and again: no average decays that far, though some are small.
import torch
from torch import nn

torch.manual_seed(0)
words = torch.randint(0, 2000, (24_000,))
labels = words % 2
embedding, head = nn.Embedding(2000, 32), nn.Linear(32, 2)
optimizer = torch.optim.Adam([*embedding.parameters(), *head.parameters()], lr=1e-3)
for rows in torch.arange(24_000).split(40):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(head(embedding(words[rows])), labels[rows])
    loss.backward()
    optimizer.step()
