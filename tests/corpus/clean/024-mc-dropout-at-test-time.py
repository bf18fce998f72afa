import torch
import torch.nn as nn
import torch.nn.functional as F


class BayesianMLP(nn.Module):
    """dropout stays on when predicting: that gives the uncertainty"""

    def __init__(self, h=48, p=0.1):
        super().__init__()
        self.l1, self.l2, self.l3 = nn.Linear(1, h), nn.Linear(h, h), nn.Linear(h, 1)
        self.p = p

    def forward(self, x):
        x = F.dropout(torch.relu(self.l1(x)), self.p, training=True)
        x = F.dropout(torch.relu(self.l2(x)), self.p, training=True)
        return self.l3(x)

    @torch.no_grad()
    def predict(self, x, n=30):
        draws = torch.stack([self(x) for _ in range(n)])
        return draws.mean(0), draws.std(0)


torch.manual_seed(24)
net = BayesianMLP()
opt = torch.optim.Adam(net.parameters(), lr=5e-3, weight_decay=1e-4)
x = torch.cat([torch.rand(100, 1) * 2 - 3, torch.rand(100, 1) * 2 + 1])
y = torch.sin(x) + 0.05 * torch.randn_like(x)
for epoch in range(60):
    net.train()
    for i in torch.randperm(200).split(40):
        loss = F.mse_loss(net(x[i]), y[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
net.eval()
mean, std = net.predict(torch.tensor([[-2.0], [0.0], [2.0]]))
print("loss", round(loss.item(), 4), "std", [round(v, 3) for v in std[:, 0].tolist()])
