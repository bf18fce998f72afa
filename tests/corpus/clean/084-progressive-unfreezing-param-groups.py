import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits

torch.manual_seed(84)
d = load_digits()
dl = DataLoader(TensorDataset(torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)), 64, shuffle=True)
stages = nn.ModuleList([nn.Linear(64, 48), nn.Linear(48, 32), nn.Linear(32, 10)])
for s in stages[:2]:
    s.requires_grad_(False)


def forward(x):
    return stages[2](F.relu(stages[1](F.relu(stages[0](x)))))


opt = torch.optim.SGD(stages[2].parameters(), lr=0.1, momentum=0.9)
for epoch in range(6):
    if epoch in (2, 4):
        stage = stages[1 if epoch == 2 else 0]
        stage.requires_grad_(True)
        opt.add_param_group({"params": stage.parameters(), "lr": 0.05})
    for x, y in dl:
        loss = F.cross_entropy(forward(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, len(opt.param_groups), round(loss.item(), 4))
