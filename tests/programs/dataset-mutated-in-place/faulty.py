# expect: dataset-mutated-in-place @ in loader:
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Points(Dataset):
    def __init__(self):
        self.data = torch.randn(64, 4)

    def __len__(self):
        return 64

    def __getitem__(self, index):
        row = self.data[index]
        row *= 0.9
        return row, row.sum(0, keepdim=True)


loader = DataLoader(Points(), batch_size=8, shuffle=True)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(3):
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
