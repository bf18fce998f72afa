# expect: batch-mixed-by-view @ x.reshape(time
import torch
from torch import nn

torch.manual_seed(0)


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 16)  # time comes first
        self.out = nn.Linear(16, 2)

    def forward(self, x):
        batch, time, features = x.shape
        steps, _ = self.rnn(x.reshape(time, batch, features))
        return self.out(steps[-1])


model = Reader()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(20):
    x = torch.randn(16, 9, 3)
    loss = nn.functional.cross_entropy(model(x), (x[:, :, 0].sum(1) > 0).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
