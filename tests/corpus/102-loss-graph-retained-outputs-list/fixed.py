import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import make_friedman2
from sklearn.metrics import r2_score

torch.manual_seed(13)
X, y = make_friedman2(800, noise=20.0, random_state=13)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)
loader = DataLoader(TensorDataset(X, y), batch_size=40, shuffle=True)

net = nn.Sequential(nn.Linear(4, 32), nn.GELU(), nn.Linear(32, 1), nn.Flatten(0))
opt = torch.optim.Adam(net.parameters(), lr=5e-3)
loss_fn = nn.HuberLoss()
history = []

for epoch in range(8):
    preds, trues = [], []
    for xb, yb in loader:
        out = net(xb)
        loss = loss_fn(out, yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        preds.append(out.detach())
        trues.append(yb)
    r2 = r2_score(torch.cat(trues).numpy(), torch.cat(preds).detach().numpy())
    history.append(r2)
    print(f"epoch {epoch} loss {loss.item():.4f} train R2 {r2:.3f}")
