# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
users, items = nn.Embedding(1000, 8, sparse=True), nn.Embedding(500, 8, sparse=True)
opt = torch.optim.SparseAdam([*users.parameters(), *items.parameters()], lr=0.01)
for it in range(40):
    u, i = torch.randint(0, 1000, (16,)), torch.randint(0, 500, (16,))
    score = (users(u) * items(i)).sum(1)
    loss = nn.functional.binary_cross_entropy_with_logits(score, torch.randint(0, 2, (16,)).float())
    opt.zero_grad()
    loss.backward()
    opt.step()
