"""A dataset in memory that adds jitter to each sample when it is read."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Signals(Dataset):
    def __init__(self, n=300, length=32, train=True):
        g = torch.Generator().manual_seed(int(train))
        self.labels = torch.randint(0, 3, (n,), generator=g)
        t = torch.linspace(0, 6.28, length)
        self.data = torch.sin(t * (self.labels[:, None] + 1).float())[:, None]
        self.train = train

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        signal = self.data[i]
        if self.train:
            signal = signal + 0.2 * torch.randn_like(signal)
            signal = signal * (1 + 0.1 * torch.randn(()))
        return signal, self.labels[i]


class ConvNet(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv1d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(8, 16, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
            nn.Linear(16, 3),
        )


def epoch(model, loader, criterion, optimizer=None):
    training = optimizer is not None
    model.train(training)
    total = 0.0
    with torch.set_grad_enabled(training):
        for x, y in loader:
            loss = criterion(model(x), y)
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total += loss.item() * len(x)
    return total / len(loader.dataset)


torch.manual_seed(0)
train = DataLoader(Signals(), batch_size=30, shuffle=True)
val = DataLoader(Signals(100, train=False), batch_size=50)
model, criterion = ConvNet(), nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for i in range(5):
    print(i, epoch(model, train, criterion, optimizer), epoch(model, val, criterion))
