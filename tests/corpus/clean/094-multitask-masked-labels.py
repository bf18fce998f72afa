import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(94)


class Toxicity(nn.Module):
    def __init__(self, tasks=3):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.1))
        self.heads = nn.ModuleList(nn.Linear(32, 1) for _ in range(tasks))

    def forward(self, x):
        h = self.body(x)
        return torch.cat([head(h) for head in self.heads], 1)


net = Toxicity()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for it in range(1, 151):
    net.train()
    x = torch.randn(16, 10)
    y = (x[:, :3] + x[:, 3:6] > 0).float()
    known = torch.rand(16, 3) < torch.tensor([0.8, 0.3, 0.02])       # the third task has hardly any labels
    y[~known] = float("nan")
    raw = F.binary_cross_entropy_with_logits(net(x), torch.nan_to_num(y), reduction="none")
    loss = (raw * known).sum() / known.sum().clamp(min=1)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 50 == 0:
        print(it, round(loss.item(), 4))
