# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)


class AE(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(12, 16)
        self.enc = nn.GRU(16, 16, batch_first=True, bidirectional=True)
        self.out = nn.Linear(8, 6 * 12)
        self.neck = nn.Linear(32, 8)

    def forward(self, tokens):
        _, h = self.enc(self.embed(tokens))
        return self.out(self.neck(torch.cat([h[0], h[1]], 1))).view(len(tokens), 6, 12)


ae = AE()
opt = torch.optim.Adam(ae.parameters(), lr=1e-3)
for it in range(30):
    tokens = torch.randint(0, 12, (16, 6))
    loss = nn.functional.cross_entropy(ae(tokens).flatten(0, 1), tokens.flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()
