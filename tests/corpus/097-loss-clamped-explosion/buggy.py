import torch
import torch.nn as nn

torch.manual_seed(20)


class Forecaster(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.cell = nn.LSTMCell(1, hidden)
        self.head = nn.Linear(hidden, 1)
        self.hidden = hidden

    def forward(self, x):
        h = x.new_zeros(x.size(0), self.hidden)
        c = torch.zeros_like(h)
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
        return self.head(h)


def series(n):
    t0 = 10 * torch.rand(n, 1)
    t = t0 + 0.3 * torch.arange(13)
    s = torch.sin(t) * torch.linspace(1, 3, 13)
    return s[:, :-1, None], s[:, -1:]


model = Forecaster()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
mse = nn.MSELoss()
for it in range(1, 161):
    x, y = series(48)
    optimizer.zero_grad()
    loss = mse(model(x), y)
    loss = torch.clamp(loss, max=1.0)
    loss.backward()
    optimizer.step()
    if it % 40 == 0:
        print(f"iteration {it}: loss {loss.item():.4f}")
