import random
import torch
import torch.nn as nn
import torch.nn.functional as F

PAD, BOS, EOS = 0, 1, 2
WORDS = list("abcdefghij")
itos = ["<pad>", "<bos>", "<eos>"] + WORDS
stoi = {w: i for i, w in enumerate(itos)}


def example():
    w = [random.choice(WORDS) for _ in range(random.randint(2, 10))]
    return [stoi[c] for c in w], [BOS] + [stoi[c] for c in reversed(w)] + [EOS]


def batchify(pairs):
    ls, lt = max(len(s) for s, _ in pairs), max(len(t) for _, t in pairs)
    src = torch.tensor([s + [PAD] * (ls - len(s)) for s, _ in pairs])
    tgt = torch.tensor([t + [PAD] * (lt - len(t)) for _, t in pairs])
    return src, tgt


class Seq2Seq(nn.Module):
    def __init__(self, n, d=48):
        super().__init__()
        self.src_emb = nn.Embedding(n, d, padding_idx=PAD)
        self.tgt_emb = nn.Embedding(n, d, padding_idx=PAD)
        self.encoder, self.decoder = nn.GRU(d, d, batch_first=True), nn.GRU(2 * d, d, batch_first=True)
        self.out = nn.Linear(2 * d, n)

    def forward(self, src, tgt_in):
        enc, h = self.encoder(self.src_emb(src))
        e = self.tgt_emb(tgt_in)
        # attention with the embedded input as the query
        att = (e @ enc.transpose(1, 2)).masked_fill((src == PAD).unsqueeze(1), -1e9).softmax(-1)
        ctx = att @ enc
        y, _ = self.decoder(torch.cat([e, ctx], -1), h)
        return self.out(torch.cat([y, ctx], -1))


class SmoothedLoss(nn.Module):
    def __init__(self, eps=0.05, ignore=-100):
        super().__init__()
        self.eps, self.ignore = eps, ignore

    def forward(self, logits, target):
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=self.ignore, label_smoothing=self.eps)


random.seed(0)
torch.manual_seed(0)
net, crit = Seq2Seq(len(itos)), SmoothedLoss()
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
for it in range(1, 151):
    src, tgt = batchify([example() for _ in range(32)])
    opt.zero_grad()
    loss = crit(net(src, tgt[:, :-1]), tgt[:, 1:])
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    opt.step()
    if it % 50 == 0:
        print(f"it {it} loss {loss.item():.3f}")
