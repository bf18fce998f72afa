import math
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

torch.manual_seed(4)
VOCAB, CTX = 12, 16


class TransformerLM(nn.Module):
    def __init__(self, d=32, heads=4, layers=2):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, d)
        pos = torch.arange(CTX).unsqueeze(1)
        div = torch.exp(torch.arange(0, d, 2) * (-math.log(10000.0) / d))
        pe = torch.zeros(CTX, d)
        pe[:, 0::2], pe[:, 1::2] = torch.sin(pos * div), torch.cos(pos * div)
        self.register_buffer("pe", pe)
        layer = nn.TransformerEncoderLayer(d, heads, 2 * d, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.decoder = nn.Linear(d, VOCAB)

    def forward(self, src):
        h = self.emb(src) + self.pe[: src.size(1)]
        mask = nn.Transformer.generate_square_subsequent_mask(src.size(1))
        h = self.encoder(h, mask=mask, is_causal=True)
        return self.decoder(h)


def markov(n, length, seed):
    g = torch.Generator().manual_seed(seed)
    trans = torch.softmax(3 * torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(0)), 1)
    seq = torch.randint(0, VOCAB, (n, 1), generator=g)
    while seq.size(1) < length:
        seq = torch.cat([seq, torch.multinomial(trans[seq[:, -1]], 1, generator=g)], 1)
    return seq


train = DataLoader(markov(640, CTX + 1, 1), batch_size=32, shuffle=True)
valid = markov(160, CTX + 1, 2)
model = TransformerLM()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for epoch in range(4):
    model.train()
    for seq in train:
        data, targets = seq[:, :-1], seq[:, 1:]
        output = model(data)
        loss = F.cross_entropy(output.reshape(-1, VOCAB), targets.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        val = F.cross_entropy(model(valid[:, :-1]).transpose(1, 2), valid[:, 1:]).item()
    print(f"epoch {epoch} loss {loss.item():.3f} valid ppl {math.exp(val):.2f}")
