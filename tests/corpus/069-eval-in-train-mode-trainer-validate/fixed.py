from dataclasses import dataclass
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Blobs(Dataset):
    def __init__(self, n, seed, size=16):
        g = torch.Generator().manual_seed(seed)
        c = torch.randint(4, size - 4, (n, 2), generator=g)
        r = torch.randint(2, 5, (n, 1, 1), generator=g)
        yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        d2 = (yy - c[:, :1, None]) ** 2 + (xx - c[:, 1:, None]) ** 2
        self.mask = (d2 <= r ** 2).float().unsqueeze(1)
        self.img = self.mask + 0.6 * torch.randn(self.mask.shape, generator=g)

    def __len__(self):
        return len(self.img)

    def __getitem__(self, i):
        return self.img[i], self.mask[i]


class TinyUNet(nn.Module):
    def __init__(self, c=8):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU())
        self.mid = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU(), nn.Dropout2d(0.3))
        self.up = nn.Conv2d(2 * c, 1, 3, padding=1)

    def forward(self, x):
        a = self.down(x)
        b = F.interpolate(self.mid(F.max_pool2d(a, 2)), scale_factor=2)
        return self.up(torch.cat([a, b], 1))


@dataclass
class Trainer:
    model: nn.Module
    optimizer: torch.optim.Optimizer
    train_loader: DataLoader
    val_loader: DataLoader

    def train(self):
        self.model.train()
        total = 0.0
        for img, mask in self.train_loader:
            self.optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(self.model(img), mask)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.train_loader)

    def validate(self):
        inter = union = 0.0
        self.model.eval()
        with torch.no_grad():
            for img, mask in self.val_loader:
                pred = (self.model(img) > 0).float()
                inter += (pred * mask).sum().item()
                union += ((pred + mask) > 0).sum().item()
        return inter / max(union, 1)

    def fit(self, epochs):
        for e in range(epochs):
            print(f"epoch {e} train loss {self.train():.4f} val IoU {self.validate():.4f}")


if __name__ == "__main__":
    torch.manual_seed(11)
    m = TinyUNet()
    Trainer(m, torch.optim.Adam(m.parameters(), 5e-3), DataLoader(Blobs(240, 0), 24, shuffle=True),
            DataLoader(Blobs(80, 1), 40)).fit(5)
