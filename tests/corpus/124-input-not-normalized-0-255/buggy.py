import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits

torch.manual_seed(0)
d = load_digits()
images = torch.tensor(d.images * (255.0 / 16.0)).to(torch.uint8)      # as read from png files
labels = torch.tensor(d.target)
train_loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(images[1400:], labels[1400:]), batch_size=100)


def to_input(batch):
    return batch.unsqueeze(1).float()


model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=5e-4, momentum=0.9)
for epoch in range(5):
    model.train()
    for x, y in train_loader:
        loss = F.cross_entropy(model(to_input(x)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        acc = sum((model(to_input(x)).argmax(1) == y).sum().item() for x, y in test_loader) / len(test_loader.dataset)
    print(f"epoch {epoch} loss {loss.item():.3f} acc {acc:.3f}")
