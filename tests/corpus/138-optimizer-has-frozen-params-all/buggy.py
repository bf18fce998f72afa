import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_wine

torch.manual_seed(138)
X, y = load_wine(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y)


class TransferModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(13, 64), nn.ReLU())
        self.classifier = nn.Linear(64, 3)
        for p in self.backbone.parameters():
            p.requires_grad = False

    def forward(self, x):
        return self.classifier(self.backbone(x))


model = TransferModel()
optimizer = torch.optim.Adam(model.backbone.parameters(), lr=1e-2)
for epoch in range(10):
    for i in torch.randperm(178).split(30):
        loss = F.cross_entropy(model(X[i]), y[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 3 == 0:
        print(epoch, round(loss.item(), 4))
