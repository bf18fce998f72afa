import torch
import torch.nn as nn
from sklearn.datasets import make_multilabel_classification
from torch.utils.data import DataLoader, TensorDataset


class TagModel(nn.Module):
    def __init__(self, n_in, n_tags):
        super(TagModel, self).__init__()
        self.body = nn.Sequential(nn.Linear(n_in, 48), nn.ReLU())
        self.tags = nn.Linear(48, n_tags)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        out = self.tags(self.body(x))
        return self.sigmoid(out)


def f1(pred, true):
    tp = (pred * true).sum().item()
    return 2 * tp / max(1.0, (pred.sum() + true.sum()).item())


torch.manual_seed(0)
X, Y = make_multilabel_classification(800, 24, n_classes=6, n_labels=2, random_state=0)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
Y = torch.tensor(Y, dtype=torch.float32)
train = DataLoader(TensorDataset(X[:600], Y[:600]), batch_size=30, shuffle=True)
model = TagModel(24, 6)
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(10):
    losses = []
    model.train()
    for xb, yb in train:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        prob = model(X[600:])
    if epoch % 3 == 0:
        print(f"epoch {epoch} loss {sum(losses) / len(losses):.4f} F1 {f1((prob > 0.5).float(), Y[600:]):.3f}")
