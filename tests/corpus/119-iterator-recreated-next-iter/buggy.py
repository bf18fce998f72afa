import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import make_regression

torch.manual_seed(5)
X, y = make_regression(640, 12, n_informative=8, noise=3.0, random_state=5)
X = torch.tensor(X, dtype=torch.float32)
y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32).view(-1, 1)
train_loader = DataLoader(TensorDataset(X, y), batch_size=32, shuffle=True, drop_last=True)
total_steps = 200




model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(total_steps):
    inputs, targets = next(iter(train_loader))
    loss = nn.functional.mse_loss(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (step + 1) % 50 == 0:
        print(f"step {step + 1} loss {loss.item():.4f}")
