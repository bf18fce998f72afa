import torch
import torch.nn as nn
from sklearn.datasets import make_moons

SEED = 10
torch.manual_seed(SEED)


class ResMLP(nn.Module):
    def __init__(self, width=24, depth=4):
        super().__init__()
        self.first = nn.Linear(2, width)
        self.hidden = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.last = nn.Linear(width, 1)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        for layer in self.hidden:
            x = x + torch.tanh(layer(x))
        return self.last(x)


X, y = make_moons(1000, noise=0.2, random_state=SEED)
X = torch.tensor(X, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(y, dtype=torch.float32).unsqueeze(1)
Xt, yt, Xv, yv = X[:700], y[:700], X[700:], y[700:]

model = ResMLP()
print("parameters:", sum(p.numel() for p in model.parameters()))
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
loss_fn = nn.BCEWithLogitsLoss()
for epoch in range(10):
    for idx in torch.randperm(len(Xt)).split(50):
        loss = loss_fn(model(Xt[idx]), yt[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        acc = ((model(Xv) > 0).float() == yv).float().mean()
    print(f"epoch {epoch} loss {loss.item():.4f} val acc {acc.item():.3f}")
