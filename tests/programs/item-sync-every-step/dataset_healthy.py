# expect: nothing
# A data set that reads its own numbers: nothing waits for a device.
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Labels(Dataset):
    def __init__(self):
        self.x = torch.randn(128, 4)
        self.y = (self.x[:, 0] > 0).long()

    def __len__(self):
        return 128

    def __getitem__(self, index):
        return self.x[index], int(self.y[index])


torch.manual_seed(0)
model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    for x, y in DataLoader(Labels(), batch_size=8, shuffle=True):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
