import torch
import torch.nn as nn
from sklearn.datasets import make_friedman1
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(77)
X, y = make_friedman1(n_samples=900, n_features=8, noise=0.3, random_state=7)
X = torch.tensor(X, dtype=torch.float32) * 2 - 1
y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)[:, None]
dl = DataLoader(TensorDataset(X[:700], y[:700]), batch_size=35, shuffle=True)


class Regressor(nn.Module):
    def __init__(self, d_in, d_h):
        super().__init__()
        self.inp = nn.Linear(d_in, d_h)
        self.res = nn.Linear(d_h, d_h)
        self.out = nn.Linear(d_h, 1)

    def forward(self, x):
        h = torch.relu(self.inp(x))
        h = h + torch.relu(self.res(h))
        return self.out(h)


model = Regressor(8, 40)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(10):
    model.train()
    for xb, yb in dl:
        pred = model(xb)
        loss = nn.functional.mse_loss(pred, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        test = nn.functional.mse_loss(model(X[700:]), y[700:]).item()
    print(f"[{epoch:02d}] train {loss.item():.4f} test {test:.4f}")
