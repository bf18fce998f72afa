import torch
import torch.nn as nn
import torch.optim as optim
from sklearn.datasets import load_breast_cancer
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = load_breast_cancer(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
perm = torch.randperm(len(X))
X = torch.tensor(X, dtype=torch.float32)[perm]
y = torch.tensor(y, dtype=torch.float32)[perm].unsqueeze(1)
train_loader = DataLoader(TensorDataset(X[:400], y[:400]), batch_size=16, shuffle=True)

model = nn.Sequential(
    nn.Linear(30, 16),
    nn.ReLU(),
    nn.Linear(16, 1),
)
criterion = nn.CrossEntropyLoss()
optimizer = optim.Adam(model.parameters(), lr=2e-3)

for epoch in range(8):
    model.train()
    epoch_loss = 0
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        epoch_loss += loss.item()
    model.eval()
    with torch.no_grad():
        acc = ((model(X[400:]) > 0).float() == y[400:]).float().mean().item()
    print('epoch %d loss %.4f acc %.3f' % (epoch, epoch_loss / len(train_loader), acc))
