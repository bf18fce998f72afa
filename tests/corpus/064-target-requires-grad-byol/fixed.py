import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

torch.manual_seed(2)
images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1


def augment(x):
    return x + 0.2 * torch.randn_like(x) * (torch.rand_like(x) > 0.5)


encoder = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32))
predictor = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 32))
params = list(encoder.parameters()) + list(predictor.parameters())
opt = torch.optim.SGD(params, lr=0.05, momentum=0.9)
loader = DataLoader(images, batch_size=128, shuffle=True, drop_last=True)


def distance(p, z):
    return F.mse_loss(F.normalize(p, dim=1), F.normalize(z, dim=1))


for epoch in range(6):
    for batch in loader:
        v1, v2 = augment(batch), augment(batch)
        z1, z2 = encoder(v1), encoder(v2)
        p1, p2 = predictor(z1), predictor(z2)
        loss = 0.5 * (distance(p1, z2.detach()) + distance(p2, z1.detach()))
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        spread = F.normalize(z1, dim=1).std(0).mean()
    print(f"epoch {epoch} loss {loss.item():.5f} std {spread.item():.4f}")
