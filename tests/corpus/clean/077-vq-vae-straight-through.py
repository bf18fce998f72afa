import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class VQ(nn.Module):
    def __init__(self, n=16, d=8):
        super().__init__()
        self.codebook = nn.Embedding(n, d)
        nn.init.uniform_(self.codebook.weight, -0.5, 0.5)

    def forward(self, z):
        idx = torch.cdist(z, self.codebook.weight).argmin(1)
        q = self.codebook(idx)
        loss = F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())
        return z + (q - z).detach(), loss, idx


torch.manual_seed(77)
x = torch.tensor(load_digits().data / 8 - 1, dtype=torch.float32)
enc, vq, dec = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)), VQ(), nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64))
opt = torch.optim.Adam([*enc.parameters(), *vq.parameters(), *dec.parameters()], lr=3e-3)
for it in range(1, 151):
    b = x[torch.randint(0, len(x), (64,))]
    q, vq_loss, idx = vq(enc(b))
    recon = F.mse_loss(dec(q), b)
    loss = recon + vq_loss
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 50 == 0:
        print(it, round(recon.item(), 4), "codes used", idx.unique().numel())
