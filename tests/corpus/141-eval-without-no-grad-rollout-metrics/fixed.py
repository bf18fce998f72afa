import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, TensorDataset


class Runner:
    def __init__(self, seed=141):
        torch.manual_seed(seed)
        X, y = load_breast_cancer(return_X_y=True)
        X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
        y = torch.tensor(y, dtype=torch.float32)
        self.train_dl = DataLoader(TensorDataset(X[:400], y[:400]), 25, shuffle=True)
        self.test_dl = DataLoader(TensorDataset(X[400:], y[400:]), 50)
        self.net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))
        self.opt = torch.optim.Adam(self.net.parameters(), lr=2e-3)

    def fit(self, epochs=5):
        for epoch in range(epochs):
            self.net.train()
            for x, y in self.train_dl:
                loss = nn.functional.binary_cross_entropy_with_logits(self.net(x), y)
                self.opt.zero_grad()
                loss.backward()
                self.opt.step()
            print(epoch, f"loss {loss.item():.4f} auc {self.auc():.4f}")

    @torch.no_grad()
    def auc(self):
        self.net.eval()
        scores, labels = [], []
        for x, y in self.test_dl:
            out = self.net(x)
            scores.append(torch.sigmoid(out).detach().numpy())
            labels.append(y.numpy())
        return roc_auc_score(np.concatenate(labels), np.concatenate(scores))


Runner().fit()
