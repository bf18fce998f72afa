import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class DropBlock(nn.Module):
    def __init__(self, d, survive):
        super().__init__()
        self.f = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d), nn.GELU(), nn.Linear(d, d))
        self.survive = survive

    def forward(self, x):
        if self.training:
            if torch.rand(()) > self.survive:
                return x
            return x + self.f(x)
        return x + self.survive * self.f(x)


class Net(nn.Module):
    def __init__(self, d=48, depth=5):
        super().__init__()
        self.inp, self.out = nn.Linear(64, d), nn.Linear(d, 10)
        self.blocks = nn.ModuleList([DropBlock(d, 1 - 0.4 * i / depth) for i in range(depth)])

    def forward(self, x):
        x = self.inp(x)
        for b in self.blocks:
            x = b(x)
        return self.out(x)


torch.manual_seed(18)
d = load_digits()
x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
dl = DataLoader(TensorDataset(x[:1400], y[:1400]), 70, shuffle=True)
net = Net()
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
for epoch in range(4):
    net.train()
    for xb, yb in dl:
        loss = nn.functional.cross_entropy(net(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        print(epoch, (net(x[1400:]).argmax(1) == y[1400:]).float().mean().item())
