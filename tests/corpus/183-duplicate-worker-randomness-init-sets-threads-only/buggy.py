"""Random crops with numpy's generator, loaded by two workers."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info


class Crops(Dataset):
    def __init__(self, n=192):
        self.images = np.random.default_rng(1).random((n, 1, 20, 20), dtype=np.float32)
        self.labels = (self.images.mean((1, 2, 3)) > 0.5).astype(np.int64)
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        top, left = self.rng.integers(0, 5, size=2)
        noise = self.rng.normal(0, 0.05, (1, 16, 16)).astype(np.float32)
        crop = self.images[i][:, top : top + 16, left : left + 16] + noise
        return torch.from_numpy(crop), int(self.labels[i])


def init_worker(number):
    torch.set_num_threads(1)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
        self.fc = nn.Linear(72, 2)

    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))


def main():
    torch.manual_seed(0)
    loader = DataLoader(Crops(), batch_size=16, shuffle=True, num_workers=2, worker_init_fn=init_worker)
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(3):
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())


if __name__ == "__main__":
    main()
