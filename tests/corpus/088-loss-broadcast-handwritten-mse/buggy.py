import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import make_regression

torch.manual_seed(1)
X, y = make_regression(700, 8, noise=5.0, random_state=1)
X = torch.tensor(X, dtype=torch.float32)
y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)
dl = DataLoader(TensorDataset(X[:550], y[:550]), batch_size=25, shuffle=True)

model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
opt = torch.optim.Adam(model.parameters(), lr=5e-3)

for epoch in range(12):
    tot = 0.0
    for xb, yb in dl:
        pred = model(xb)
        loss = torch.mean((pred - yb) ** 2)
        opt.zero_grad()
        loss.backward()
        opt.step()
        tot += loss.item()
    if epoch % 4 == 3:
        with torch.no_grad():
            r2 = 1 - ((model(X[550:])[:, 0] - y[550:]) ** 2).mean() / y[550:].var()
        print(f"epoch {epoch + 1} train mse {tot / len(dl):.4f} test R2 {r2.item():.3f}")
