import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(42)
V, L, MASK = 14, 12, 13


class Bert(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.emb, self.pos = nn.Embedding(V, d), nn.Parameter(0.02 * torch.randn(L, d))
        layer = nn.TransformerEncoderLayer(d, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.enc = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.lm = nn.Linear(d, V)

    def forward(self, x):
        return self.lm(self.enc(self.emb(x) + self.pos))


def batch(n):
    start, d = torch.randint(0, 13, (n, 1)), torch.randint(1, 4, (n, 1))
    ids = (start + d * torch.arange(L)) % 13
    labels = ids.clone()
    m = torch.rand(ids.shape) < 0.2
    m[:, 0] = True
    labels[~m] = -100
    inp = torch.where(m & (torch.rand(ids.shape) < 0.9), MASK, ids)    # 10 % of the masked stay as they are
    return inp, labels


model = Bert()
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
for it in range(1, 101):
    x, y = batch(32)
    loss = F.cross_entropy(model(x).view(-1, V), y.view(-1), ignore_index=-100)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 25 == 0:
        print(it, round(loss.item(), 4))
