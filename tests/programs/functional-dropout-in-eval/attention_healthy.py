# expect: nothing
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v, None, 0.1 * self.training).mean(1))


model = Attention()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(3):
    model.train()
    for step in range(10):
        x = torch.randn(16, 5, 8)
        loss = F.cross_entropy(model(x), (x.sum((1, 2)) > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        x = torch.randn(64, 5, 8)
        print(epoch, (model(x).argmax(1) == (x.sum((1, 2)) > 0)).float().mean().item())
