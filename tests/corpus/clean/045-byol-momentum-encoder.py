import copy
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

torch.manual_seed(45)


class BYOL(nn.Module):
    """the target network stays in train mode on purpose, as in the paper's code: its BatchNorm uses batch statistics"""

    def __init__(self, tau=0.98):
        super().__init__()
        self.online = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 24))
        self.predictor = nn.Sequential(nn.Linear(24, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 24))
        self.target = copy.deepcopy(self.online)
        self.target.requires_grad_(False)
        self.tau = tau

    def forward(self, a, b):
        pa, pb = self.predictor(self.online(a)), self.predictor(self.online(b))
        with torch.no_grad():
            ta, tb = self.target(a), self.target(b)
        return 2 - F.cosine_similarity(pa, tb).mean() - F.cosine_similarity(pb, ta).mean()

    @torch.no_grad()
    def momentum_update(self):
        for o, t in zip(self.online.parameters(), self.target.parameters()):
            t.data = self.tau * t.data + (1 - self.tau) * o.data


x = torch.tensor(load_digits().data / 8 - 1, dtype=torch.float32)
byol = BYOL()
opt = torch.optim.Adam([p for p in byol.parameters() if p.requires_grad], lr=2e-3)
view = lambda v: v + 0.3 * torch.randn_like(v)
for epoch in range(4):
    for v in DataLoader(x, batch_size=128, shuffle=True, drop_last=True):
        loss = byol(view(v), view(v))
        opt.zero_grad()
        loss.backward()
        opt.step()
        byol.momentum_update()
    print(epoch, round(loss.item(), 4))
