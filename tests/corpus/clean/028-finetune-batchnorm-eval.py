"""Detection-style fine-tuning: BatchNorm stays in eval mode (small batches), its affine parameters are trained with the rest."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4))
        self.fc = nn.Linear(128, n)
        self.freeze_bn = False

    def train(self, mode=True):
        super().train(mode)
        if self.freeze_bn:
            for m in self.modules():
                if isinstance(m, nn.BatchNorm2d):
                    m.eval()
        return self

    def forward(self, x):
        return self.fc(self.stem(x).flatten(1))


def fit(net, x, y, bs, epochs, lr):
    opt = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    for e in range(epochs):
        net.train()
        for i in torch.randperm(len(x)).split(bs):
            opt.zero_grad()
            loss = F.cross_entropy(net(x[i]), y[i])
            loss.backward()
            opt.step()
        print("  epoch", e, round(loss.item(), 3))


torch.manual_seed(28)
d = load_digits()
x, y = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 8 - 1, torch.tensor(d.target)
net = Net(10)
fit(net, x[:900], y[:900], 60, 3, 0.05)
net.freeze_bn = True
fit(net, x[900:1100], y[900:1100], 4, 2, 0.002)
net.eval()
with torch.no_grad():
    print("test", (net(x[1100:]).argmax(1) == y[1100:]).float().mean().item())
