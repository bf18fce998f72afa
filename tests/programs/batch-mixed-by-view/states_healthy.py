# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)


class Both(nn.Module):
    """The last states of both directions, side by side."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 12, batch_first=True, bidirectional=True)
        self.out = nn.Linear(24, 2)

    def forward(self, x):
        _, (hidden, _) = self.rnn(x)
        return self.out(hidden.transpose(0, 1).reshape(len(x), -1))


model = Both()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(20):
    x = torch.randn(16, 9, 3)
    loss = nn.functional.cross_entropy(model(x), (x[:, :, 0].sum(1) > 0).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
