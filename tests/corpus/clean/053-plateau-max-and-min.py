import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_wine

torch.manual_seed(53)
X, y = load_wine(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y)
p = torch.randperm(178)
tr, va = p[:130], p[130:]
dl = DataLoader(TensorDataset(X[tr], y[tr]), batch_size=26, shuffle=True)
model = nn.Sequential(nn.Linear(13, 16), nn.Tanh(), nn.Linear(16, 3))
opt = torch.optim.SGD(model.parameters(), lr=0.3)
sched = ReduceLROnPlateau(opt, mode="max", factor=0.5, patience=2)
for epoch in range(15):
    model.train()
    for xb, yb in dl:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(xb), yb)
        loss.backward()
        opt.step()
    model.eval()
    with torch.no_grad():
        acc = (model(X[va]).argmax(1) == y[va]).float().mean().item()
    sched.step(acc)
    if epoch % 5 == 4:
        print(epoch, f"acc {acc:.3f} lr {opt.param_groups[0]['lr']:.4f}")
