import torch
import torch.nn as nn
from sklearn.datasets import load_wine


def init_weights(m):
    if isinstance(m, nn.Linear):
        nn.init.constant_(m.weight, 0.05)
        nn.init.zeros_(m.bias)


torch.manual_seed(11)
data = load_wine()
X = torch.tensor((data.data - data.data.mean(0)) / data.data.std(0), dtype=torch.float32)
y = torch.tensor(data.target)
perm = torch.randperm(len(X))
train, test = perm[:130], perm[130:]
model = nn.Sequential(nn.Linear(13, 32), nn.Sigmoid(), nn.Linear(32, 32), nn.Sigmoid(), nn.Linear(32, 3))
model.apply(init_weights)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
criterion = nn.CrossEntropyLoss()
for epoch in range(30):
    for b in train[torch.randperm(130)].split(13):
        optimizer.zero_grad()
        loss = criterion(model(X[b]), y[b])
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        with torch.no_grad():
            acc = (model(X[test]).argmax(1) == y[test]).float().mean().item()
        print(f"epoch {epoch + 1} loss {loss.item():.3f} test acc {acc:.3f}")
