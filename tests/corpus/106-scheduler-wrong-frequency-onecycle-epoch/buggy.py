import torch
import torch.nn as nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import make_circles

EPOCHS = 10


def build():
    torch.manual_seed(23)
    X, y = make_circles(800, noise=0.1, factor=0.5, random_state=23)
    X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    tr = DataLoader(TensorDataset(X[:600], y[:600]), batch_size=20, shuffle=True)
    va = DataLoader(TensorDataset(X[600:], y[600:]), batch_size=200)
    net = nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 1), nn.Flatten(0))
    return net, tr, va


net, tr, va = build()
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
sched = OneCycleLR(opt, max_lr=0.3, epochs=EPOCHS, steps_per_epoch=len(tr))
bce = nn.BCEWithLogitsLoss()
for epoch in range(EPOCHS):
    net.train()
    for x, y in tr:
        loss = bce(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    sched.step()
    net.eval()
    with torch.no_grad():
        acc = sum(((net(x) > 0).float() == y).float().mean().item() for x, y in va)
    print(f"epoch {epoch} lr {sched.get_last_lr()[0]:.4f} loss {loss.item():.3f} acc {acc:.3f}")
