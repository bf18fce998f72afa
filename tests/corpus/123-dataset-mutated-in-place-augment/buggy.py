import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from sklearn.datasets import load_digits


class AugmentedDigits(Dataset):
    def __init__(self, images, labels, train):
        self.images = torch.tensor(images, dtype=torch.float32).unsqueeze(1) / 8 - 1
        self.labels = torch.tensor(labels)
        self.train = train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        img = self.images[idx]
        if self.train:
            img += 0.3 * torch.randn(img.shape)
            if torch.rand(1) < 0.5:
                r = int(torch.randint(0, 7, (1,)))
                img[:, r:r + 2] = -1.0
        return img, self.labels[idx]


torch.manual_seed(33)
d = load_digits()
train_dl = DataLoader(AugmentedDigits(d.images[:1200], d.target[:1200], True), batch_size=60, shuffle=True)
test_dl = DataLoader(AugmentedDigits(d.images[1200:], d.target[1200:], False), batch_size=100)
net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10))
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(6):
    net.train()
    for x, y in train_dl:
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        acc = sum((net(x).argmax(1) == y).sum().item() for x, y in test_dl) / len(test_dl.dataset)
    print(f"epoch {epoch} train loss {loss.item():.3f} test acc {acc:.3f}")
