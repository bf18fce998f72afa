import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_wine

torch.manual_seed(6)
X, y = load_wine(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
loader = DataLoader(TensorDataset(X, torch.tensor(y)), batch_size=16, shuffle=True)
net = nn.Sequential(nn.Linear(13, 20), nn.ReLU(), nn.Linear(20, 3))
sgd = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
for epoch in range(6):
    running = 0.0
    for xb, yb in loader:
        loss = nn.functional.cross_entropy(net(xb), yb)
        loss.backward()
        sgd.step()
        sgd.zero_grad(set_to_none=False)
        running += loss.item()
    print(f"epoch {epoch}: {running / len(loader):.4f}")
