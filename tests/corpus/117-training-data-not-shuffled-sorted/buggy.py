import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset
from sklearn.datasets import load_digits


class ImageFolderLike(Dataset):
    """samples listed class by class, as ImageFolder does"""

    def __init__(self, part):
        d = load_digits()
        self.samples = []
        for cls in range(10):
            rows = (d.target == cls).nonzero()[0]
            cut = int(0.75 * len(rows))
            rows = rows[:cut] if part == "train" else rows[cut:]
            self.samples += [(d.images[r], cls) for r in rows]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        img, cls = self.samples[i]
        return torch.tensor(img, dtype=torch.float32).unsqueeze(0) / 8 - 1, cls


def main():
    torch.manual_seed(0)
    train_loader = DataLoader(ImageFolderLike("train"), batch_size=32)
    test_loader = DataLoader(ImageFolderLike("test"), batch_size=64)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(5):
        model.train()
        total = 0.0
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
        model.eval()
        good = 0
        with torch.no_grad():
            for images, labels in test_loader:
                good += (model(images).argmax(1) == labels).sum().item()
        print(f"epoch {epoch} loss {total / len(train_loader):.3f} acc {good / len(test_loader.dataset):.3f}")


main()
