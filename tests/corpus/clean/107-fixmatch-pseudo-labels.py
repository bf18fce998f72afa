"""Half-supervised learning: the network labels weakly changed images itself, in training mode, without a graph."""
import itertools

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def weak(x):
    return x + 0.05 * torch.randn_like(x)


def strong(x):
    return (x + 0.3 * torch.randn_like(x)) * (torch.rand_like(x) > 0.2)


class Net(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(24, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2))
        self.classifier = nn.Linear(64, classes)

    def forward(self, x):
        return self.classifier(self.features(x))


def cycle(loader):
    return itertools.chain.from_iterable(itertools.repeat(loader))


class FixMatch:
    def __init__(self, net, threshold=0.7, weight=1.0):
        self.net, self.threshold, self.weight = net, threshold, weight
        self.optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)

    def pseudo_labels(self, x):
        with torch.no_grad():
            confidence, label = self.net(weak(x)).softmax(dim=-1).max(dim=-1)
        return label, (confidence >= self.threshold).float()

    def step(self, labelled, unlabelled):
        (x, y), (u,) = labelled, unlabelled
        label, mask = self.pseudo_labels(u)
        supervised = F.cross_entropy(self.net(weak(x)), y)
        unsupervised = (F.cross_entropy(self.net(strong(u)), label, reduction="none") * mask).mean()
        self.optimizer.zero_grad()
        (supervised + self.weight * unsupervised).backward()
        self.optimizer.step()
        return supervised.item(), mask.mean().item()


def main():
    torch.manual_seed(0)
    centres = torch.randn(4, 24)
    y = torch.randint(0, 4, (1000,))
    x = centres[y] + 0.8 * torch.randn(1000, 24)
    labelled = cycle(DataLoader(TensorDataset(x[:80], y[:80]), 16, shuffle=True))
    unlabelled = cycle(DataLoader(TensorDataset(x[80:800]), 64, shuffle=True, drop_last=True))
    learner = FixMatch(Net())
    for step in range(80):
        learner.net.train()
        loss, used = learner.step(next(labelled), next(unlabelled))
        if step % 20 == 19:
            learner.net.eval()
            with torch.no_grad():
                right = (learner.net(x[800:]).argmax(1) == y[800:]).float().mean().item()
            print(step + 1, round(loss, 4), round(used, 2), round(right, 3))


if __name__ == "__main__":
    main()
