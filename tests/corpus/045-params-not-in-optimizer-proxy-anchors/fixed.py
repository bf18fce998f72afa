"""Proxy-NCA on the digits, evaluated by nearest neighbour retrieval."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class ProxyNCA(nn.Module):
    def __init__(self, n_classes, dim, scale=8.0):
        super().__init__()
        self.proxies = nn.Parameter(torch.randn(n_classes, dim))
        self.scale = scale

    def forward(self, emb, labels):
        dist = torch.cdist(F.normalize(emb), F.normalize(self.proxies)).pow(2)
        return F.cross_entropy(-self.scale * dist, labels)


class Embedder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.l1 = nn.Linear(64, 64)
        self.bn = nn.BatchNorm1d(64)
        self.l2 = nn.Linear(64, dim)

    def forward(self, x):
        return self.l2(F.relu(self.bn(self.l1(x))))


def recall_at_1(model, x, y):
    model.eval()
    with torch.no_grad():
        e = F.normalize(model(x))
        sim = e @ e.T
        sim.fill_diagonal_(-1)
    return (y[sim.argmax(1)] == y).float().mean().item()


torch.manual_seed(13)
digits = load_digits()
x = torch.tensor(digits.data / 16 - 0.3, dtype=torch.float32)
y = torch.tensor(digits.target)
known, novel = y < 7, y >= 7          # train on 0..6, retrieve 7..9
loader = DataLoader(TensorDataset(x[known], y[known]), batch_size=100, shuffle=True)
model = Embedder(8)
loss_fn = ProxyNCA(7, 8)
opt = torch.optim.AdamW([*model.parameters(), *loss_fn.parameters()], lr=5e-3, weight_decay=1e-4)
for epoch in range(5):
    model.train()
    for xb, yb in loader:
        loss = loss_fn(model(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(f"epoch {epoch}: loss {loss.item():.3f} recall@1 on unseen classes {recall_at_1(model, x[novel], y[novel]):.3f}")
