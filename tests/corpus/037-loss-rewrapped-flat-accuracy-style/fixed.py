import torch
import torch.nn as nn
import numpy as np
from sklearn.datasets import load_diabetes

torch.manual_seed(3)
X, y = load_diabetes(return_X_y=True)
perm = np.random.RandomState(3).permutation(len(y))
X = torch.tensor(((X - X.mean(0)) / X.std(0))[perm], dtype=torch.float32)
y = torch.tensor(((y - y.mean()) / y.std())[perm], dtype=torch.float32)

model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
opt = torch.optim.Adam(model.parameters(), lr=0.01)


def mean_absolute_percentage(pred, true):
    diff = torch.abs(pred - true) / (1.0 + torch.abs(true))
    return diff.mean()


for epoch in range(15):
    model.train()
    epoch_loss = 0
    order = torch.randperm(350)
    for i in range(0, 350, 50):
        batch = order[i:i + 50]
        out = model(X[batch]).squeeze()
        loss = mean_absolute_percentage(out, y[batch])
        opt.zero_grad()
        loss.backward()
        opt.step()
        epoch_loss += loss.item()
    if epoch % 3 == 2:
        model.eval()
        with torch.no_grad():
            v = mean_absolute_percentage(model(X[350:]).squeeze(), y[350:]).item()
        print("Epoch:", epoch + 1, "Loss: %.4f" % (epoch_loss / 7), "Val: %.4f" % v)
