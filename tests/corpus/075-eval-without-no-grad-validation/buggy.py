import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import make_friedman1
from sklearn.preprocessing import StandardScaler


def loaders(seed=3):
    X, y = make_friedman1(900, noise=0.3, random_state=seed)
    X = StandardScaler().fit_transform(X)
    y = (y - y.mean()) / y.std()
    X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    return (DataLoader(TensorDataset(X[:700], y[:700]), batch_size=50, shuffle=True),
            DataLoader(TensorDataset(X[700:], y[700:]), batch_size=50))


class Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(10, 40)
        self.b = nn.Linear(40, 1)

    def forward(self, x):
        return self.b(torch.nn.functional.silu(self.a(x)))[:, 0]


def validate(model, loader, criterion):
    model.eval()
    total = 0.0
    for x, y in loader:
        loss = criterion(model(x), y)
        total += loss.item() * len(x)
    return total / len(loader.dataset)


torch.manual_seed(3)
train, val = loaders()
model, criterion = Regressor(), nn.MSELoss()
opt = torch.optim.Adam(model.parameters(), lr=5e-3)
best = float("inf")
for epoch in range(10):
    model.train()
    for x, y in train:
        opt.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        opt.step()
    v = validate(model, val, criterion)
    best = min(best, v)
    print(f"{epoch:02d} val mse {v:.4f} best {best:.4f}")
