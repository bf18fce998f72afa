"""Denoising autoencoder with a helper for noise."""
import torch
from torch import nn


def seed_everything(seed=42):
    torch.manual_seed(seed)


class NoisyInput(nn.Module):
    """Adds noise to what goes in, and hides some of it."""

    def __init__(self, sigma=0.3, hidden=0.2):
        super().__init__()
        self.sigma, self.hidden = sigma, hidden

    def forward(self, x):
        if not self.training:
            return x
        noise = torch.randn_like(x) * self.sigma
        keep = torch.rand_like(x) > self.hidden
        return (x + noise) * keep


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.corrupt = NoisyInput()
        self.encoder = nn.Sequential(nn.Linear(24, 16), nn.ReLU())
        self.decoder = nn.Linear(16, 24)

    def forward(self, x):
        return self.decoder(self.encoder(self.corrupt(x)))


def batches(x, size):
    order = torch.randperm(len(x))
    for i in range(0, len(x), size):
        yield x[order[i : i + size]]


def train(model, x, epochs=5):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        model.train()
        for batch in batches(x, 32):
            loss = nn.functional.mse_loss(model(batch), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            print(epoch, nn.functional.mse_loss(model(x), x).item())


seed_everything()
data = torch.randn(320, 6) @ torch.randn(6, 24)
train(Autoencoder(), data)
