import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(80)
d = load_digits()
x, y = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 8 - 1, torch.tensor(d.target)
dl = DataLoader(TensorDataset(x[:1400], y[:1400]), 70, shuffle=True)
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(288, 10))
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(3):
    net.train()
    for xb, yb in dl:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(xb), yb)
        loss.backward()
        opt.step()
    net.eval()
    probe = x[1400:1410].clone().requires_grad_(True)
    logits = net(probe)
    saliency, = torch.autograd.grad(logits.max(1).values.sum(), probe)
    print(epoch, round(loss.item(), 3), "most salient row", int(saliency.abs().sum((0, 1, 3)).argmax()))
