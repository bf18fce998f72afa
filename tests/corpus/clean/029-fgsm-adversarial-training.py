import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits

torch.manual_seed(29)
d = load_digits()
x, y = torch.tensor(d.data / 16, dtype=torch.float32), torch.tensor(d.target)
dl = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=70, shuffle=True)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
opt = torch.optim.Adam(model.parameters(), lr=3e-3)


def fgsm(x, y, eps=0.1):
    delta = torch.zeros_like(x, requires_grad=True)
    F.cross_entropy(model(x + delta), y).backward()      # also writes into the model's .grad, cleared below
    return (x + eps * delta.grad.sign()).clamp(0, 1).detach()


for epoch in range(4):
    for xb, yb in dl:
        adv = fgsm(xb, yb)
        opt.zero_grad()
        loss = 0.5 * F.cross_entropy(model(xb), yb) + 0.5 * F.cross_entropy(model(adv), yb)
        loss.backward()
        opt.step()
    adv = fgsm(x[1400:], y[1400:])
    with torch.no_grad():
        acc = (model(x[1400:]).argmax(1) == y[1400:]).float().mean().item()
        rob = (model(adv).argmax(1) == y[1400:]).float().mean().item()
    print(f"epoch {epoch} clean {acc:.3f} robust {rob:.3f}")
