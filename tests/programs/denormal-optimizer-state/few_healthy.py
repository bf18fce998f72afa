# expect: nothing
# As many denormals as elsewhere, for their share, and so few that nobody waits for them.
import torch
from torch import nn

torch.manual_seed(0)
words = torch.cat([torch.arange(60), torch.randint(0, 20, (14_940,))])
labels = words % 2
embedding, head = nn.Embedding(60, 16), nn.Linear(16, 2)
optimizer = torch.optim.Adam([*embedding.parameters(), *head.parameters()], lr=1e-3, betas=(0.6, 0.99))
for rows in torch.arange(15_000).split(50):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(head(embedding(words[rows])), labels[rows])
    loss.backward()
    optimizer.step()
