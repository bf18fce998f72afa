import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(133)
d = load_digits()
X, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
model = nn.Linear(64, 10)              # multinomial logistic regression
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
criterion = nn.CrossEntropyLoss()

for epoch in range(6):
    for idx in torch.randperm(1500).split(30):
        out = model(X[idx])
        loss = criterion(out, y[idx])
        optimizer.step()
        optimizer.zero_grad()
        loss.backward()
    with torch.no_grad():
        acc = (model(X[1500:]).argmax(1) == y[1500:]).float().mean().item()
    print("epoch", epoch + 1, "loss", round(loss.item(), 4), "acc", round(acc, 3))
