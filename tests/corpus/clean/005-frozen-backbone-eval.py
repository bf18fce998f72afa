import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(5)
backbone = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Dropout(0.1), nn.Flatten())
for p in backbone.parameters():
    p.requires_grad_(False)
backbone.eval()                                  # random features
head = nn.Sequential(nn.Dropout(0.2), nn.Linear(192, 10))
optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
d = load_digits()
x, y = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 8 - 1, torch.tensor(d.target)
loader = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=70, shuffle=True)
for epoch in range(4):
    head.train()
    for xb, yb in loader:
        with torch.no_grad():
            feats = backbone(xb)
        loss = nn.functional.cross_entropy(head(feats), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    head.eval()
    with torch.no_grad():
        acc = (head(backbone(x[1400:])).argmax(1) == y[1400:]).float().mean().item()
    print(epoch, round(loss.item(), 3), round(acc, 3))
