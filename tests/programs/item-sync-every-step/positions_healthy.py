# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
images = torch.randn(256, 1, 16, 16)
labels = (images.mean((1, 2, 3)) > 0).long()
model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)


def crop(batch, size):
    top, left = torch.randint(0, 16 - size + 1, (2,)).tolist()
    return batch[:, :, top : top + size, left : left + size]


for epoch in range(3):
    for rows in torch.randperm(256).split(16):
        views = torch.cat([crop(images[rows], 12) for _ in range(4)])
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(views), labels[rows].repeat(4))
        loss.backward()
        optimizer.step()
