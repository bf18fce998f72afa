import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, num_classes=5):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.fc = nn.Linear(128, num_classes)

    def forward(self, x):
        return self.fc(self.features(x))


def loader(x, y, mask, shift, shuffle=True):
    return DataLoader(TensorDataset(x[mask], y[mask] - shift), batch_size=32, shuffle=shuffle)


def fit(model, dl, opt, epochs, tag):
    for e in range(epochs):
        model.train()
        total = 0.0
        for xb, yb in dl:
            opt.zero_grad()
            loss = F.cross_entropy(model(xb), yb)
            loss.backward()
            opt.step()
            total += loss.item()
        print(f"{tag} epoch {e} loss {total / len(dl):.4f}")


def test(model, dl):
    model.eval()
    with torch.no_grad():
        return sum((model(a).argmax(1) == b).sum().item() for a, b in dl) / len(dl.dataset)


if __name__ == "__main__":
    torch.manual_seed(1)
    d = load_digits()
    x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 8.0 - 1.0
    y = torch.tensor(d.target)
    is_train = torch.rand(len(x)) < 0.75

    # pre-train on the digits 0..4
    model = Net(5)
    fit(model, loader(x, y, is_train & (y < 5), 0), torch.optim.Adam(model.parameters(), lr=2e-3), 2, "pretrain")

    # transfer to 5..9
    model.fc = nn.Linear(128, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    fit(model, loader(x, y, is_train & (y >= 5), 5), optimizer, 4, "finetune")
    print(f"test accuracy {test(model, loader(x, y, ~is_train & (y >= 5), 5, shuffle=False)):.3f}")
