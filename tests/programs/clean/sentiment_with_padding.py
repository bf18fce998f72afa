# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
embed = nn.Embedding(30, 16, padding_idx=0)
head = nn.Linear(16, 2)
opt = torch.optim.Adam([*embed.parameters(), *head.parameters()], lr=1e-3)
for it in range(20):
    tokens = torch.randint(1, 30, (16, 10))
    tokens[:, 6:] = 0
    labels = (tokens[:, 0] > 15).long()
    loss = nn.functional.cross_entropy(head(embed(tokens).mean(1)), labels)
    opt.zero_grad()
    loss.backward()
    opt.step()
