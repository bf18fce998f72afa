import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset
from sklearn.datasets import load_digits


class DigitsDataset(Dataset):
    def __init__(self, train):
        d = load_digits()
        split = slice(0, 1300) if train else slice(1300, None)
        self.x = torch.tensor(d.data[split] / 8.0 - 1.0, dtype=torch.float32)
        self.y = torch.tensor(d.target[split])

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return {"pixels": self.x[index], "label": self.y[index]}


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        self.logsoftmax = nn.LogSoftmax(dim=1)

    def forward(self, x):
        return self.logsoftmax(self.layers(x))


def train(epochs=6):
    torch.manual_seed(3)
    net = MLP()
    criterion = nn.NLLLoss()
    optim = torch.optim.Adam(net.parameters(), lr=3e-3)
    tr = DataLoader(DigitsDataset(True), batch_size=52, shuffle=True)
    te = DataLoader(DigitsDataset(False), batch_size=128)
    for epoch in range(epochs):
        net.train()
        for batch in tr:
            optim.zero_grad()
            loss = criterion(net(batch["pixels"]), batch["label"])
            loss.backward()
            optim.step()
        net.eval()
        hit = 0
        with torch.no_grad():
            for batch in te:
                hit += (net(batch["pixels"]).argmax(1) == batch["label"]).sum().item()
        print("epoch %d loss %.3f acc %.3f" % (epoch, loss.item(), hit / len(te.dataset)))


if __name__ == "__main__":
    train()
