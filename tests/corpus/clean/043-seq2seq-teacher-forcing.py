import random
import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(43)
torch.manual_seed(43)
PAD, SOS, EOS, V = 0, 1, 2, 13


class Encoder(nn.Module):
    def __init__(self, h):
        super().__init__()
        self.emb, self.gru = nn.Embedding(V, h, padding_idx=PAD), nn.GRU(h, h, batch_first=True)

    def forward(self, x):
        return self.gru(self.emb(x))


class Decoder(nn.Module):
    def __init__(self, h):
        super().__init__()
        self.emb, self.cell, self.out = nn.Embedding(V, h, padding_idx=PAD), nn.GRUCell(2 * h, h), nn.Linear(h, V)

    def forward(self, enc, h, target, forcing):
        tok, logits = target[:, 0], []
        for t in range(1, target.size(1)):
            att = torch.softmax((enc @ h.unsqueeze(2)).squeeze(2), dim=1)
            ctx = (att.unsqueeze(1) @ enc).squeeze(1)
            h = self.cell(torch.cat([self.emb(tok), ctx], 1), h)
            o = self.out(h)
            logits.append(o)
            tok = target[:, t] if random.random() < forcing else o.argmax(1)
        return torch.stack(logits, 1)


def batch(n):
    lens = [random.randint(2, 6) for _ in range(n)]
    seqs = [[random.randint(3, V - 1) for _ in range(l)] for l in lens]
    src = torch.tensor([s + [PAD] * (6 - len(s)) for s in seqs])
    tgt = torch.tensor([[SOS] + s[::-1] + [EOS] + [PAD] * (6 - len(s)) for s in seqs])
    return src, tgt


enc, dec = Encoder(32), Decoder(32)
opt_e, opt_d = torch.optim.Adam(enc.parameters(), 5e-3), torch.optim.Adam(dec.parameters(), 5e-3)
for it in range(1, 81):
    src, tgt = batch(32)
    opt_e.zero_grad()
    opt_d.zero_grad()
    out, h = enc(src)
    logits = dec(out, h[0], tgt, forcing=0.7)
    loss = F.cross_entropy(logits.flatten(0, 1), tgt[:, 1:].flatten(), ignore_index=PAD)
    loss.backward()
    opt_e.step()
    opt_d.step()
    if it % 20 == 0:
        print(it, round(loss.item(), 3))
