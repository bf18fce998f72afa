import torch
import torch.nn as nn
from sklearn.datasets import make_blobs

torch.manual_seed(2)
X, y = make_blobs(400, centers=[[-2, -2], [2, 2]], cluster_std=1.0, random_state=2)
X = torch.tensor(X, dtype=torch.float32)
y = torch.tensor(y, dtype=torch.float32).unsqueeze(1)

model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
opt = torch.optim.SGD(model.parameters(), lr=2.0)


def weighted_bce(logits, y, pos_weight=3.0):
    p = torch.sigmoid(logits)
    return -(pos_weight * y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()


for epoch in range(30):
    for idx in torch.randperm(len(X)).split(40):
        loss = weighted_bce(model(4 * X[idx]), y[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 10 == 9:
        with torch.no_grad():
            acc = ((model(4 * X) > 0).float() == y).float().mean()
        print(f"epoch {epoch} loss {loss.item():.4f} acc {acc.item():.3f}")
