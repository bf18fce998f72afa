import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.optim.lr_scheduler import OneCycleLR

torch.manual_seed(21)
images, labels = load_digits(return_X_y=True)
images = torch.from_numpy(images).float().div_(8.).sub_(1.).view(-1, 1, 8, 8)
labels = torch.from_numpy(labels)
idx = torch.randperm(len(images))
train_idx, val_idx = idx[:1400], idx[1400:]

EPOCHS, BS = 6, 50
net = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
    nn.Flatten(), nn.Linear(16, 10))
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
sched = OneCycleLR(opt, max_lr=0.2, total_steps=EPOCHS * (len(train_idx) // BS))

for epoch in range(EPOCHS):
    net.train()
    perm = train_idx[torch.randperm(len(train_idx))]
    for batch in perm.split(BS):
        opt.zero_grad()
        loss = F.cross_entropy(net(images[batch]), labels[batch])
        loss.backward()
        opt.step()
        sched.step()
    net.eval()
    with torch.no_grad():
        acc = (net(images[val_idx]).argmax(1) == labels[val_idx]).float().mean()
    print(f"epoch {epoch} loss {loss.item():.3f} val acc {acc:.3f}")
