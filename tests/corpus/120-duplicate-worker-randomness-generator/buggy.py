import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class NoisyWaves(Dataset):
    def __init__(self, n=240):
        self.n = n
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        label = i % 2
        t = np.linspace(0, 1, 32)
        wave = np.sin(2 * np.pi * (2 + 2 * label) * t + self.rng.uniform(0, 2 * np.pi))
        wave = wave + self.rng.normal(0, 0.3, 32)
        return torch.tensor(wave, dtype=torch.float32), label


def main():
    torch.manual_seed(1)
    loader = DataLoader(NoisyWaves(), batch_size=24, shuffle=True, num_workers=2)
    model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(3):
        total = 0.0
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item()
        print(f"epoch {epoch} loss {total / len(loader):.4f}")


if __name__ == "__main__":
    main()
