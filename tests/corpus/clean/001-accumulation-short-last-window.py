import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ACCUM = 3
X, y = load_breast_cancer(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y, dtype=torch.float32)
loader = DataLoader(TensorDataset(X[:500], y[:500]), batch_size=24, shuffle=True)
model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
bce = nn.BCEWithLogitsLoss()

for epoch in range(5):
    model.train()
    batches = list(loader)
    for start in range(0, len(batches), ACCUM):
        window = batches[start:start + ACCUM]
        n = sum(len(b[0]) for b in window)
        for xb, yb in window:
            (bce(model(xb), yb) * len(xb) / n).backward()
        opt.step()
        opt.zero_grad()
    model.eval()
    with torch.no_grad():
        acc = ((model(X[500:]) > 0) == y[500:].bool()).float().mean().item()
    print(f"epoch {epoch} acc {acc:.3f}")
