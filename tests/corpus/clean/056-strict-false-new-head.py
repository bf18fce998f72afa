import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU())
        self.head = nn.Linear(24, n)

    def forward(self, x):
        return self.head(self.body(x))


def fit(net, x, y, steps, lr):
    opt = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(steps):
        i = torch.randint(0, len(x), (64,))
        loss = F.cross_entropy(net(x[i]), y[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
    print("loss", round(loss.item(), 4))


torch.manual_seed(56)
d = load_digits()
x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
pre = Net(6)
fit(pre, x[y < 6], y[y < 6], 80, 3e-3)
torch.save({"model": pre.state_dict(), "epoch": 3}, "pre.pt")
net = Net(4)
state = {k: v for k, v in torch.load("pre.pt")["model"].items() if not k.startswith("head.")}
missing, unexpected = net.load_state_dict(state, strict=False)
assert not unexpected and all(k.startswith("head.") for k in missing)
fit(net, x[y >= 6], y[y >= 6] - 6, 40, 1e-3)
