import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(19)


class CosineClassifier(nn.Module):
    """cosine similarity to class weights with a learnable scale"""

    def __init__(self, in_features, n_classes):
        super().__init__()
        self.fc1 = nn.Linear(in_features, 48)
        self.weight = nn.Parameter(torch.randn(n_classes, 48))
        self.scale = torch.tensor(1.0, requires_grad=True)

    def forward(self, x):
        f = F.normalize(torch.relu(self.fc1(x)), dim=1)
        return self.scale * f @ F.normalize(self.weight, dim=1).t()


X, y = load_digits(return_X_y=True)
X = torch.tensor(X / 16.0, dtype=torch.float32)
X = X - X.mean(0)
y = torch.tensor(y)
p = torch.randperm(len(X))
net = CosineClassifier(64, 10)
opt = torch.optim.Adam(net.parameters(), lr=2e-2)
for epoch in range(8):
    for b in p[:1400][torch.randperm(1400)].split(70):
        loss = F.cross_entropy(net(X[b]), y[b])
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        out = net(X[p[1400:]])
    acc = (out.argmax(1) == y[p[1400:]]).float().mean()
    print(f"epoch {epoch}: loss {loss.item():.3f}, scale {net.scale.item():.2f}, held out acc {acc:.3f}")
