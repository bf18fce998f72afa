import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split
from sklearn.datasets import make_classification


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(30, 96), nn.ReLU(), nn.Dropout(0.1), nn.Linear(96, 3))

    def forward(self, x):
        return self.net(x)


def train(model, train_loader, optimizer):
    model.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    return loss.item()


@torch.no_grad()
def validate(model, loader):
    model.eval()
    ok = 0
    for x, y in loader:
        ok += (model(x).argmax(1) == y).sum().item()
    return ok / len(loader.dataset)


torch.manual_seed(0)
X, y = make_classification(700, 30, n_informative=8, n_classes=3, flip_y=0.1, random_state=3)
data = TensorDataset(torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32), torch.tensor(y))
train_set, val_set = random_split(data, [500, 200])
train_loader = DataLoader(train_set, batch_size=25, shuffle=True)
val_loader = DataLoader(val_set, batch_size=100)
model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(8):
    loss = train(model, train_loader, optimizer)
    val_acc = validate(model, val_loader)
    print(f"epoch {epoch}: loss {loss:.4f} val acc {val_acc:.3f}")
