import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class SpectralNet(nn.Module):
    """learned filters -> magnitude spectrum -> classifier"""

    def __init__(self, n_filters=6, length=64, n_classes=3):
        super().__init__()
        self.filters = nn.Conv1d(1, n_filters, 9, padding=4)
        self.norm = nn.LayerNorm(length // 2 + 1)
        self.classify = nn.Linear(n_filters * (length // 2 + 1), n_classes)

    def forward(self, wave):
        h = torch.tanh(self.filters(wave))
        spec = torch.from_numpy(np.abs(np.fft.rfft(h.detach().numpy(), axis=-1))).float()
        return self.classify(self.norm(spec).flatten(1))


def signals(n, rng):
    t = np.arange(64) / 64
    y = rng.integers(0, 3, n)
    f = np.array([4, 7, 11])[y] + rng.normal(0, 0.5, n)
    w = np.sign(np.sin(2 * np.pi * (f[:, None] * t + rng.random((n, 1))))) + rng.normal(0, 1.0, (n, 64))
    return torch.tensor(w[:, None], dtype=torch.float32), torch.tensor(y)


def run():
    rng = np.random.default_rng(9)
    torch.manual_seed(9)
    xtr, ytr = signals(600, rng)
    xte, yte = signals(300, rng)
    net = SpectralNet()
    opt = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(6):
        net.train()
        tot = 0.
        for i in torch.randperm(len(xtr)).split(30):
            opt.zero_grad()
            loss = F.cross_entropy(net(xtr[i]), ytr[i])
            loss.backward()
            opt.step()
            tot += loss.item() * len(i)
        net.eval()
        with torch.no_grad():
            print(epoch, f"{tot / len(xtr):.4f}", f"{(net(xte).argmax(1) == yte).float().mean():.3f}")


run()
