import torch
import torch.nn as nn
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(10)
iris = load_iris()
X = torch.tensor(StandardScaler().fit_transform(iris.data), dtype=torch.float32)
y = torch.tensor(iris.target, dtype=torch.long)
perm = torch.randperm(150)
train_dl = DataLoader(TensorDataset(X[perm[:110]], y[perm[:110]]), batch_size=10, shuffle=True)
X_test, y_test = X[perm[110:]], y[perm[110:]]

model = nn.Sequential(
    nn.Linear(4, 16),
    nn.ReLU(),
    nn.Linear(16, 3),
    nn.Softmax(dim=1),
)
loss_fn = nn.CrossEntropyLoss()
opt = torch.optim.SGD(model.parameters(), lr=0.1)

for epoch in range(20):
    for xb, yb in train_dl:
        pred = model(xb)
        loss = loss_fn(pred, yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 5 == 4:
        with torch.no_grad():
            acc = (model(X_test).argmax(dim=1) == y_test).float().mean()
        print(f"Epoch {epoch + 1}, loss {loss.item():.3f}, accuracy {acc:.2%}")
