import torch
import torch.nn as nn


class Mixture(nn.Module):
    """mixes two softmaxes, so the log is taken by hand"""

    def __init__(self, i, c):
        super().__init__()
        self.a, self.b, self.g = nn.Linear(i, c), nn.Linear(i, c), nn.Linear(i, 1)

    def forward(self, x):
        g = torch.sigmoid(self.g(x))
        return g * self.a(x).softmax(-1) + (1 - g) * self.b(x).softmax(-1)


torch.manual_seed(26)
model = Mixture(5, 3)
nll = nn.NLLLoss()
opt = torch.optim.Adam(model.parameters(), lr=0.02)
for it in range(1, 151):
    x = torch.randn(64, 5)
    y = torch.where(x[:, 4] > 0, x[:, :3].argmax(1), x[:, :3].argmin(1))
    p = model(x)
    loss = nll(torch.log(p + 1e-9), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 50 == 0:
        print(it, round(loss.item(), 4))
