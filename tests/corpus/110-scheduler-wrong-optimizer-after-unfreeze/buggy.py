import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.body(x))


def one_epoch(net, dl, opt):
    net.train()
    s = 0.0
    for x, y in dl:
        loss = F.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        s += loss.item()
    return s / len(dl)


torch.manual_seed(2)
d = load_digits()
dl = DataLoader(TensorDataset(torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)), 64, shuffle=True)
net = Net()
net.body.requires_grad_(False)
optimizer = torch.optim.Adam(net.head.parameters(), lr=5e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.3)
for epoch in range(8):
    if epoch == 3:
        net.body.requires_grad_(True)
        optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    loss = one_epoch(net, dl, optimizer)
    scheduler.step()
    print(f"epoch {epoch} loss {loss:.4f} lr {optimizer.param_groups[0]['lr']:.5f}")
