import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


class TwoViews(Dataset):
    def __init__(self):
        self.x = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1

    def __len__(self):
        return len(self.x)

    def aug(self, img):
        img = torch.roll(img, (int(torch.randint(-1, 2, ())), int(torch.randint(-1, 2, ()))), (1, 2))
        return img + 0.1 * torch.randn_like(img)

    def __getitem__(self, i):
        return self.aug(self.x[i]), self.aug(self.x[i])


def nt_xent(z, t=0.3):
    """every output depends on the whole batch: that is the point of the loss"""
    n = len(z) // 2
    sim = F.normalize(z, dim=1) @ F.normalize(z, dim=1).T / t
    sim = sim.masked_fill(torch.eye(2 * n, dtype=torch.bool), float("-inf"))
    target = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(sim, target)


torch.manual_seed(46)
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 32), nn.ReLU(), nn.Linear(32, 16))
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
loader = DataLoader(TwoViews(), batch_size=128, shuffle=True, drop_last=True)
for epoch in range(2):
    for a, b in loader:
        loss = nt_xent(net(torch.cat([a, b])))
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, round(loss.item(), 3))
