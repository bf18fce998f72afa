# expect: nothing
"""Views of many kinds: heads, patches, time folded into the batch, pairs, groups of a batch, time first."""
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self, width=24, heads=4):
        super().__init__()
        self.inside, self.heads = nn.Linear(12, width), heads
        self.qkv = nn.Linear(width, 3 * width)
        self.rnn = nn.GRU(width, width)
        self.out = nn.Linear(width, 3)

    def forward(self, images):
        b, c, h, w = images.shape
        x = images.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, -1, 4 * c)
        x = self.inside(x.reshape(b * x.size(1), -1)).view(b, x.size(1), -1)
        t, d = x.shape[1:]
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).unbind(2)
        q, k, v = (one.transpose(1, 2).reshape(b * self.heads, t, -1) for one in (q, k, v))
        y = (torch.softmax(q @ k.transpose(1, 2), -1) @ v).view(b, self.heads, t, -1)
        y = y.transpose(1, 2).contiguous().view(b, t, d)
        first = y.transpose(0, 1).contiguous()
        merged = first.view(t, b * self.heads, -1).view(t, b, d)
        states, last = self.rnn(merged)
        pairs = states[-1].view(b // 2, 2, d).flip(1).view(b, d)
        return self.out(last.view(b, d) + 0.1 * pairs)


model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(40):
    images = torch.randn(16, 3, 8, 8)
    loss = F.cross_entropy(model(images), images.mean((2, 3)).argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
