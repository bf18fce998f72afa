import torch
import torch.nn as nn

torch.manual_seed(27)


class MultiHead(nn.Module):
    """sequence-first self-attention"""

    def __init__(self, d, h):
        super().__init__()
        self.h, self.dh = h, d // h
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))

    def split(self, x, t, b):
        return x.contiguous().view(b * self.h, t, self.dh)

    def forward(self, x):
        t, b, d = x.shape
        q, k, v = self.split(self.q(x), t, b), self.split(self.k(x), t, b), self.split(self.v(x), t, b)
        a = torch.softmax(torch.bmm(q, k.transpose(1, 2)) / self.dh ** 0.5, dim=-1)
        y = torch.bmm(a, v).transpose(0, 1).reshape(t, b, d)
        return self.o(y)


class Net(nn.Module):
    def __init__(self, vocab=20, d=32):
        super().__init__()
        self.emb = nn.Embedding(vocab, d)
        self.att = MultiHead(d, 4)
        self.norm = nn.LayerNorm(d)
        self.cls = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, 2))

    def forward(self, tokens):               # tokens: (time, batch)
        x = self.emb(tokens)
        x = self.norm(x + self.att(x))
        return self.cls(x.mean(0))


def has_pair(batch, t=10):
    """does token 3 occur together with token 7?"""
    tok = torch.randint(8, 20, (t, batch))
    put3, put7 = torch.rand(batch) < 0.7, torch.rand(batch) < 0.7
    tok[0][put3] = 3
    tok[5][put7] = 7
    return tok, (put3 & put7).long()


net = Net()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
ce = nn.CrossEntropyLoss()
for i in range(1, 161):
    x, y = has_pair(64)
    loss = ce(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if i % 40 == 0:
        print(i, "%.4f" % loss.item())
