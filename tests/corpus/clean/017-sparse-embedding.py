import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(17)


class SkipGram(nn.Module):
    def __init__(self, n=500, d=16):
        super().__init__()
        self.u, self.v = nn.Embedding(n, d, sparse=True), nn.Embedding(n, d, sparse=True)

    def forward(self, c, pos, neg):
        e = self.u(c)
        p = (e * self.v(pos)).sum(-1)
        n = torch.bmm(self.v(neg), e.unsqueeze(-1)).squeeze(-1)
        return -(F.logsigmoid(p) + F.logsigmoid(-n).sum(-1)).mean()


model = SkipGram()
opt = torch.optim.SparseAdam(list(model.parameters()), lr=0.02)
corpus = (torch.randn(3000).cumsum(0) * 2).long() % 40        # only 40 of the 500 words occur
for it in range(1, 121):
    i = torch.randint(0, len(corpus) - 1, (64,))
    loss = model(corpus[i], corpus[i + 1], torch.randint(0, 500, (64, 4)))
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 40 == 0:
        print(it, round(loss.item(), 4))
