import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Variable
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler
from sklearn.datasets import make_classification


class FocalLoss(nn.Module):
    def __init__(self, gamma=2.0, alpha=0.25, size_average=True):
        super(FocalLoss, self).__init__()
        self.gamma = gamma
        self.alpha = alpha
        self.size_average = size_average

    def forward(self, logits, targets):
        bce = F.binary_cross_entropy_with_logits(logits, targets, reduction='none')
        pt = torch.exp(-bce)
        weight = self.alpha * targets + (1 - self.alpha) * (1 - targets)
        loss = weight * (1 - pt) ** self.gamma * bce
        loss = loss.mean() if self.size_average else loss.sum()
        return loss


class ImbalancedExperiment:
    def __init__(self, seed=0):
        torch.manual_seed(seed)
        X, y = make_classification(n_samples=1600, n_features=14, n_informative=7, weights=[0.85], random_state=seed)
        X = torch.tensor(X, dtype=torch.float32)
        X = (X - X.mean(0)) / X.std(0)
        y = torch.tensor(y, dtype=torch.float32)
        self.train_set, self.test = TensorDataset(X[:1200], y[:1200]), (X[1200:], y[1200:])
        w = torch.where(y[:1200] > 0, 3.0, 1.0)
        self.loader = DataLoader(self.train_set, batch_size=60, sampler=WeightedRandomSampler(w, 1200))
        self.net = nn.Sequential(nn.Linear(14, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 1))
        self.opt = torch.optim.AdamW(self.net.parameters(), lr=5e-3)
        self.criterion = FocalLoss()

    def train(self):
        self.net.train()
        for xb, yb in self.loader:
            self.opt.zero_grad()
            loss = self.criterion(self.net(xb).squeeze(1), yb)
            loss.backward()
            self.opt.step()

    def test_recall(self):
        self.net.eval()
        x, y = self.test
        with torch.no_grad():
            p = self.net(x).squeeze(1) > 0
        return (p & (y > 0)).sum().item() / y.sum().item()


exp = ImbalancedExperiment()
for ep in range(6):
    exp.train()
    print('epoch', ep, 'recall %.3f' % exp.test_recall())
