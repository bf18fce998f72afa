"""Packed language modelling: summed losses over micro-batches, gradients divided by the number of tokens afterwards."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1)
CTX, D, V = 24, 32, 40
ACCUMULATE, UPDATES, WARM, DECAY = 4, 40, 4, 12


class Lm(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(V, D)
        nn.init.normal_(self.emb.weight, std=0.1)
        self.att = nn.MultiheadAttention(D, 4, batch_first=True, bias=False)
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(3))
        self.mlp = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))

    def forward(self, ids, document):
        n = ids.size(1)
        same = document[:, :, None] == document[:, None, :]
        allowed = same & torch.ones(n, n, dtype=torch.bool).tril()
        x = self.emb(ids)
        h = self.norms[0](x)
        mask = ~allowed.repeat_interleave(4, 0)
        x = x + self.att(h, h, h, attn_mask=mask, need_weights=False)[0]
        x = x + self.mlp(self.norms[1](x))
        return F.linear(self.norms[2](x), self.emb.weight)


def packed(batch=6):
    """Documents of different lengths in one row; the first token of each is predicted by nothing."""
    ids = torch.zeros(batch, CTX, dtype=torch.long)
    doc = torch.zeros(batch, CTX, dtype=torch.long)
    for row in range(batch):
        at = number = 0
        while at < CTX:
            length = min(int(torch.randint(3, 12, ())), CTX - at)
            start, stride = int(torch.randint(V, ())), int(torch.randint(1, 5, ()))
            ids[row, at : at + length] = (start + stride * torch.arange(length)) % V
            doc[row, at : at + length] = number
            at, number = at + length, number + 1
    labels = ids.roll(-1, 1)
    labels[:, -1] = -100
    labels[:, :-1][doc[:, 1:] != doc[:, :-1]] = -100
    return ids, doc, labels


def wsd(update):
    if update < WARM:
        return (update + 1) / WARM
    left = UPDATES - update
    return 1.0 if left > DECAY else max(left, 0) / DECAY


model = Lm()
decay = [p for p in model.parameters() if p.ndim >= 2]
rest = [p for p in model.parameters() if p.ndim < 2]
opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=4e-3)
sched = torch.optim.lr_scheduler.LambdaLR(opt, wsd)
for update in range(UPDATES):
    tokens = 0
    summed = torch.zeros(())
    for micro in range(ACCUMULATE):
        ids, doc, labels = packed()
        logits = model(ids, doc)
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        z = 1e-4 * logits.logsumexp(-1).square().sum()
        (loss + z).backward()
        tokens += (labels != -100).sum()
        summed += loss.detach()
    with torch.no_grad():
        torch._foreach_div_([p.grad for p in model.parameters()], float(tokens))
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    sched.step()
    opt.zero_grad()
    if update % 10 == 0:
        print(f"{update} {summed / tokens:.3f} ppl {math.exp(summed / tokens):.1f} norm {norm:.2f}")
