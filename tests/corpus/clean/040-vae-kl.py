import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader


class VAE(nn.Module):
    def __init__(self, z=6):
        super().__init__()
        self.enc = nn.Linear(64, 48)
        self.mu, self.logvar = nn.Linear(48, z), nn.Linear(48, z)
        self.dec1, self.dec2 = nn.Linear(z, 48), nn.Linear(48, 64)

    def decode(self, z):
        return torch.sigmoid(self.dec2(F.relu(self.dec1(z))))

    def forward(self, x):
        h = F.relu(self.enc(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decode(z), mu, logvar


def loss_function(recon, x, mu, logvar):
    bce = F.binary_cross_entropy(recon, x, reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return bce + kld


torch.manual_seed(40)
x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
loader = DataLoader(x, batch_size=100, shuffle=True)
model = VAE()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(1, 6):
    model.train()
    total = 0.0
    for data in loader:
        opt.zero_grad()
        loss = loss_function(*((r := model(data))[0], data, r[1], r[2]))
        loss.backward()
        total += loss.item()
        opt.step()
    with torch.no_grad():
        sample = model.decode(torch.randn(8, 6))
    print(f"====> Epoch: {epoch} Average loss: {total / len(x):.3f} sample mean {sample.mean().item():.3f}")
