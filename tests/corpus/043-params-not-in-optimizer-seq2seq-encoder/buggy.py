import torch
import torch.nn as nn
import torch.nn.functional as F


class PointEncoder(nn.Module):
    """DeepSets encoder"""

    def __init__(self, d=32):
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(2, d), nn.ReLU(), nn.Linear(d, d))
        self.rho = nn.Linear(d, d)

    def forward(self, pts):
        return self.rho(self.phi(pts).mean(1))


class Decoder(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.net = nn.Sequential(nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, 3))

    def forward(self, z):
        return self.net(z)


def clouds(n, m=20):
    """Sets of points with random mean / spread; targets are the statistics."""
    mu = torch.randn(n, 2)
    sd = torch.rand(n, 1) + 0.2
    pts = mu[:, None] + sd[:, None] * torch.randn(n, m, 2)
    return pts, torch.cat([mu, sd.log()], 1)


torch.manual_seed(40)
encoder = PointEncoder()
decoder = Decoder()
optimizer = torch.optim.Adam(decoder.parameters(), lr=3e-3)

for epoch in range(6):
    encoder.train()
    decoder.train()
    for _ in range(25):
        pts, target = clouds(32)
        loss = F.mse_loss(decoder(encoder(pts)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    encoder.eval()
    decoder.eval()
    with torch.no_grad():
        pts, target = clouds(400)
        print(f"epoch {epoch}: eval mse {F.mse_loss(decoder(encoder(pts)), target).item():.4f}")
