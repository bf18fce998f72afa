import torch
import torch.nn as nn
from torch.utils.data import DataLoader
from sklearn.datasets import load_digits


class AE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.decoder = nn.Sequential(nn.ConvTranspose2d(16, 8, 2, 2), nn.ReLU(), nn.ConvTranspose2d(8, 1, 2, 2))

    def forward(self, x):
        return self.decoder(self.encoder(x))


torch.manual_seed(72)
x = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1
loader = DataLoader(x, batch_size=64, shuffle=True)
net = AE()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(3):
    total = 0.0
    for clean in loader:
        noisy = clean + 0.5 * torch.randn_like(clean)
        loss = nn.functional.mse_loss(net(noisy), clean)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    print(epoch, round(total / len(loader), 4))
