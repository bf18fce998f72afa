import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


class Residual1d(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.conv1 = nn.Conv1d(cin, cout, 5, padding=2)
        self.conv2 = nn.Conv1d(cout, cout, 5, padding=2)
        if cin != cout:
            self.proj = nn.Conv1d(cin, cout, 1)
        else:
            self.proj = nn.Identity()

    def forward(self, x):
        h = self.conv2(F.relu(self.conv1(x)))
        return F.relu(self.proj(x) + h)


class SignalNet(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.b1 = Residual1d(1, 8)
        self.b2 = Residual1d(8, 16)
        self.fc = nn.Linear(16, classes)

    def forward(self, x):
        x = F.max_pool1d(self.b1(x), 2)
        return self.fc(self.b2(x).mean(-1))


def waves(n, g):
    y = torch.randint(0, 3, (n,), generator=g)
    t = torch.linspace(0, 1, 48)
    f = torch.tensor([2.0, 4.0, 7.0])[y].unsqueeze(1)
    phase = 6.28 * torch.rand(n, 1, generator=g)
    x = torch.sin(6.28 * f * t + phase) + 0.3 * torch.randn(n, 48, generator=g)
    return TensorDataset(x.unsqueeze(1), y)


@torch.no_grad()
def evaluate(net, loader):
    net.eval()
    good = sum((net(x).argmax(1) == y).sum().item() for x, y in loader)
    return good / len(loader.dataset)


def run():
    torch.manual_seed(5)
    g = torch.Generator().manual_seed(5)
    train = DataLoader(waves(600, g), batch_size=30, shuffle=True)
    valid = DataLoader(waves(150, g), batch_size=75)
    net = SignalNet()
    opt = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(5):
        net.train()
        for x, y in train:
            loss = F.cross_entropy(net(x), y)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
        print("epoch", epoch, "loss %.3f" % loss.item(), "valid %.3f" % evaluate(net, valid))


if __name__ == "__main__":
    run()
