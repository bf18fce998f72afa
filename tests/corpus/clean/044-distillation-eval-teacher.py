import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


def mlp(h, p):
    return nn.Sequential(nn.Linear(64, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Dropout(p), nn.Linear(h, 10))


def train(model, dl, loss_fn, epochs=4):
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        model.train()
        for x, y in dl:
            opt.zero_grad()
            loss = loss_fn(model(x), x, y)
            loss.backward()
            opt.step()
    return model.eval()


torch.manual_seed(44)
d = load_digits()
x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
dl = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=70, shuffle=True)
teacher = train(mlp(128, 0.3), dl, lambda out, x, y: F.cross_entropy(out, y)).requires_grad_(False)


def kd(out, x, y, T=2.0):
    t = F.log_softmax(teacher(x) / T, 1)
    s = F.log_softmax(out / T, 1)
    return F.kl_div(s, t, reduction="batchmean", log_target=True) * T * T + 0.3 * F.cross_entropy(out, y)


student = train(mlp(16, 0.0), dl, kd)
for name, m in (("teacher", teacher), ("student", student)):
    with torch.no_grad():
        print(name, round((m(x[1400:]).argmax(1) == y[1400:]).float().mean().item(), 3))
