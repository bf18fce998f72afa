import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class QuantLinear(nn.Linear):
    def forward(self, x):
        scale = self.weight.detach().abs().max() / 7
        q = torch.round(self.weight / scale).clamp(-7, 7) * scale
        w = self.weight + (q - self.weight).detach()
        return F.linear(x, w, self.bias)


torch.manual_seed(95)
d = load_digits()
x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
net = nn.Sequential(QuantLinear(64, 48), nn.ReLU(), QuantLinear(48, 10))
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(4):
    for i in torch.randperm(1500).split(50):
        loss = F.cross_entropy(net(x[i]), y[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        print(epoch, round(loss.item(), 3), (net(x[1500:]).argmax(1) == y[1500:]).float().mean().item())
