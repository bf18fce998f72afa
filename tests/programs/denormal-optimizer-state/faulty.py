# expect: denormal-optimizer-state @ optimizer.step()
# says: of the 64,066 numbers in Adam's exp_avg are denormal (below 1.2e-38)
# Words that come in the beginning alone: their averages decay, and stay where the processor is slow.
import torch
from torch import nn

torch.manual_seed(0)
rare, common = torch.arange(2000), torch.randint(0, 20, (10_000,))
words = torch.cat([rare, common])
labels = words % 2
embedding, head = nn.Embedding(2000, 32), nn.Linear(32, 2)
optimizer = torch.optim.Adam([*embedding.parameters(), *head.parameters()], lr=1e-3, betas=(0.6, 0.99))
for rows in torch.arange(12_000).split(40):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(head(embedding(words[rows])), labels[rows])
    loss.backward()
    optimizer.step()
