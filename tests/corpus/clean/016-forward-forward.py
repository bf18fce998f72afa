import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(16)


class FFLayer(nn.Linear):
    def __init__(self, i, o, threshold=0.5):
        super().__init__(i, o)
        self.opt = torch.optim.Adam(self.parameters(), lr=0.03)
        self.threshold = threshold

    def forward(self, x):
        x = x / (x.norm(2, 1, keepdim=True) + 1e-4)
        return torch.relu(super().forward(x))

    def train_step(self, pos, neg):
        gp, gn = self(pos).pow(2).mean(1), self(neg).pow(2).mean(1)
        loss = nn.functional.softplus(torch.cat([self.threshold - gp, gn - self.threshold])).mean()
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        return self(pos).detach(), self(neg).detach(), loss.item()


def overlay(x, y):
    x = x.clone()
    x[:, :10] = 0
    x[torch.arange(len(x)), y] = x.max()
    return x


d = load_digits()
x, y = torch.tensor(d.data / 16, dtype=torch.float32), torch.tensor(d.target)
layers = nn.ModuleList([FFLayer(64, 64), FFLayer(64, 64)])
for it in range(1, 201):
    idx = torch.randint(0, 1500, (128,))
    pos = overlay(x[idx], y[idx])
    neg = overlay(x[idx], (y[idx] + torch.randint(1, 10, (128,))) % 10)
    losses = []
    for layer in layers:
        pos, neg, l = layer.train_step(pos, neg)
        losses.append(l)
    if it % 50 == 0:
        print(it, [round(v, 3) for v in losses])
