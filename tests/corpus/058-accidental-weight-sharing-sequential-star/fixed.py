import torch
from torch import nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class ResBlock(nn.Module):
    def __init__(self, ch):
        super().__init__()
        self.c1 = nn.Conv2d(ch, ch, 3, padding=1)
        self.c2 = nn.Conv2d(ch, ch, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.c2(torch.relu(self.c1(x))))


def make_resnet(ch=8, depth=4):
    stem = nn.Conv2d(1, ch, 3, padding=1)
    body = nn.Sequential(*[ResBlock(ch) for _ in range(depth)])
    head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * ch, 10))
    return nn.Sequential(stem, nn.ReLU(), body, head)


def main():
    torch.manual_seed(0)
    d = load_digits()
    x = torch.tensor(d.images, dtype=torch.float32)[:, None] / 8 - 1
    y = torch.tensor(d.target)
    perm = torch.randperm(len(x))
    train = DataLoader(TensorDataset(x[perm[:900]], y[perm[:900]]), batch_size=64, shuffle=True)
    test = DataLoader(TensorDataset(x[perm[900:1200]], y[perm[900:1200]]), batch_size=150)
    net = make_resnet()
    print("parameters:", sum(p.numel() for p in net.parameters()))
    opt = torch.optim.Adam(net.parameters(), lr=3e-3)
    crit = nn.CrossEntropyLoss()
    for epoch in range(4):
        net.train()
        for xb, yb in train:
            opt.zero_grad()
            loss = crit(net(xb), yb)
            loss.backward()
            opt.step()
        net.eval()
        with torch.no_grad():
            acc = sum((net(a).argmax(1) == b).sum().item() for a, b in test) / 300
        print(f"{epoch}: loss {loss.item():.3f} acc {acc:.3f}")


main()
