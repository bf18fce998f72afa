import random
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_breast_cancer


def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class DenoisingClassifier(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(n, 24), nn.Linear(24, 2)
        self.dropout = nn.Dropout(0.3)

    def forward(self, x):
        if self.training:
            x = x + 0.1 * torch.randn_like(x)
        return self.fc2(self.dropout(torch.relu(self.fc1(x))))


def train_epoch(model, loader, opt, crit):
    set_seed(42)
    model.train()
    losses = []
    for x, y in loader:
        opt.zero_grad()
        loss = crit(model(x), y)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return np.mean(losses)


def main():
    set_seed(42)
    X, y = load_breast_cancer(return_X_y=True)
    X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
    y = torch.tensor(y)
    loader = DataLoader(TensorDataset(X[:450], y[:450]), batch_size=30, shuffle=True)
    model = DenoisingClassifier(30)
    opt, crit = torch.optim.Adam(model.parameters(), lr=2e-3), nn.CrossEntropyLoss()
    for epoch in range(6):
        loss = train_epoch(model, loader, opt, crit)
        model.eval()
        with torch.no_grad():
            acc = (model(X[450:]).argmax(1) == y[450:]).float().mean().item()
        print(f"epoch {epoch}: loss {loss:.4f} acc {acc:.3f}")


if __name__ == "__main__":
    main()
