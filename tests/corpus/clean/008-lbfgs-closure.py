import torch
import torch.nn as nn
from sklearn.datasets import load_diabetes

torch.manual_seed(8)
X, y = load_diabetes(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float64)
y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float64).unsqueeze(1)
model = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1)).double()
optimizer = torch.optim.LBFGS(model.parameters(), lr=1, max_iter=10, history_size=10, line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(X), y) + 1e-3 * sum(p.square().sum() for p in model.parameters())
    loss.backward()
    return loss


for it in range(8):
    loss = optimizer.step(closure)
    print(f"outer {it} loss {loss.item():.6f}")
