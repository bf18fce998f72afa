import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class AEWithProbe(nn.Module):
    """unsupervised autoencoder; an online probe reads detached codes"""

    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 12))
        self.dec = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 64))
        self.probe = nn.Linear(12, 10)

    def forward(self, x):
        z = self.enc(x)
        return self.dec(z), self.probe(z.detach())


torch.manual_seed(78)
d = load_digits()
x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
net = AEWithProbe()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(6):
    for i in torch.randperm(1500).split(50):
        recon, logits = net(x[i])
        loss = F.mse_loss(recon, x[i]) + F.cross_entropy(logits, y[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        print(epoch, round(loss.item(), 3), "probe", (net(x[1500:])[1].argmax(1) == y[1500:]).float().mean().item())
