import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader


class Blobs(Dataset):
    """Images with one bright square each, the mask is the square."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.images = 0.5 * torch.randn(n, 1, 16, 16, generator=g)
        self.masks = torch.zeros(n, 1, 16, 16)
        for i in range(n):
            r, c = torch.randint(0, 11, (2,), generator=g).tolist()
            self.images[i, :, r:r + 5, c:c + 5] += 1.5
            self.masks[i, :, r:r + 5, c:c + 5] = 1.0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.masks[i]


class TinyUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.d1 = nn.Conv2d(1, 8, 3, padding=1)
        self.d2 = nn.Conv2d(8, 16, 3, padding=1)
        self.u1 = nn.Conv2d(24, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        a = F.relu(self.d1(x))
        b = F.relu(self.d2(F.max_pool2d(a, 2)))
        b = F.interpolate(b, scale_factor=2, mode="nearest")
        return self.out(F.relu(self.u1(torch.cat([a, b], 1))))


def dice(logits, mask):
    p = (logits > 0).float()
    return (2 * (p * mask).sum() / (p.sum() + mask.sum() + 1e-6)).item()


ACCUM = 4
torch.manual_seed(30)
train = DataLoader(Blobs(160, 0), batch_size=4, shuffle=True)
val = DataLoader(Blobs(48, 1), batch_size=16)
model = TinyUNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)

for epoch in range(4):
    model.train()
    optimizer.zero_grad()
    for i, (img, mask) in enumerate(train):
        loss = F.binary_cross_entropy_with_logits(model(img), mask)
        loss.backward()
        if (i + 1) % ACCUM == 0:
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        score = sum(dice(model(i), m) for i, m in val) / len(val)
    print(f"epoch {epoch} last loss {loss.item():.4f} dice {score:.3f}")
