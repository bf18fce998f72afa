# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
embed = nn.Embedding(30, 16, padding_idx=0)
rnn = nn.LSTM(16, 16, batch_first=True, bidirectional=True)
head = nn.Linear(32, 5)
opt = torch.optim.Adam([*embed.parameters(), *rnn.parameters(), *head.parameters()], lr=1e-3)
for it in range(20):
    tokens = torch.randint(1, 30, (16, 10))
    tags = tokens % 5
    logits = head(rnn(embed(tokens))[0])
    loss = nn.functional.cross_entropy(logits.transpose(1, 2), tags)
    opt.zero_grad()
    loss.backward()
    opt.step()
