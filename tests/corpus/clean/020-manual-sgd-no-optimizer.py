import torch
import torch.nn.functional as F
from sklearn.datasets import load_iris

torch.manual_seed(20)
iris = load_iris()
X = torch.tensor((iris.data - iris.data.mean(0)) / iris.data.std(0), dtype=torch.float32)
y = torch.tensor(iris.target)
W = torch.zeros(4, 3, requires_grad=True)
b = torch.zeros(3, requires_grad=True)
lr = 0.3
for epoch in range(40):
    for i in torch.randperm(150).split(30):
        loss = F.cross_entropy(X[i] @ W + b, y[i])
        loss.backward()
        with torch.no_grad():
            for p in (W, b):
                p -= lr * p.grad
                p.grad.zero_()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1} loss {loss.item():.4f}")
