# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
embed = nn.Embedding(20, 16)
rnn = nn.GRU(16, 16, batch_first=True)
head = nn.Linear(16, 20, bias=False)
head.weight = embed.weight
opt = torch.optim.Adam({id(p): p for m in (embed, rnn, head) for p in m.parameters()}.values(), lr=1e-3)
for it in range(20):
    tokens = torch.randint(0, 20, (8, 12))
    logits = head(rnn(embed(tokens[:, :-1]))[0])
    loss = nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:])
    opt.zero_grad()
    loss.backward()
    opt.step()
