# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()


class Contrast(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(10, 8), nn.Linear(10, 8)
        for q, k in zip(self.query.parameters(), self.key.parameters()):
            k.data.copy_(q.data)
            k.requires_grad = False

    def forward(self, first, second):
        with torch.no_grad():
            for q, k in zip(self.query.parameters(), self.key.parameters()):
                k.data.mul_(0.9).add_(q.data, alpha=1 - 0.9)
            keys = self.key(second)
        return self.query(first) @ keys.T


model = Contrast()
optimizer = torch.optim.SGD(model.query.parameters(), lr=0.05)
for step in range(20):
    index = torch.randint(0, 256, (32,))
    logits = model(x[index], x[index] + 0.1 * torch.randn(32, 10))
    optimizer.zero_grad()
    nn.functional.cross_entropy(logits, torch.arange(32)).backward()
    optimizer.step()
