# expect: nothing
"""A bag of instances is one sample: the attention over its instances is normalised down the first dimension."""
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(5, 16), nn.Tanh())
        self.weights, self.out = nn.Linear(16, 2), nn.Linear(32, 1)

    def forward(self, bag):
        h = self.features(bag)
        a = F.softmax(self.weights(h), dim=0)
        best = a[0] + a.sum(0)
        return self.out((a.t() @ h).reshape(1, -1)) + 0 * best.sum()


model = Bag()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(60):
    bag = torch.randn(int(torch.randint(4, 12, ())), 5)
    label = (bag[:, :1].max() > 1).float().reshape(1, 1)
    loss = F.binary_cross_entropy_with_logits(model(bag), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
