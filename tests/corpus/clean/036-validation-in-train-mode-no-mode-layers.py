import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits

torch.manual_seed(36)
d = load_digits()
x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
train = DataLoader(TensorDataset(x[:1300], y[:1300]), 65, shuffle=True)
val = DataLoader(TensorDataset(x[1300:], y[1300:]), 100)
model = nn.Sequential(nn.Linear(64, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 10))
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(5):
    for xb, yb in train:
        loss = nn.functional.cross_entropy(model(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        hits = sum((model(a).argmax(1) == b).sum().item() for a, b in val)
    print(f"epoch {epoch} loss {loss.item():.3f} val {hits / len(val.dataset):.3f}")
