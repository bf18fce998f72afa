# expect: nothing
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.first, self.second = nn.Linear(10, 16), nn.Linear(16, 2), nn.Linear(16, 2)

    def forward(self, x, stage):
        h = self.body(x).relu()
        return self.first(h) if stage == 0 else self.second(h)


model = Net()
for stage in range(2):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01 / (stage + 1))
    for epoch in range(2):
        for inputs, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs, stage), labels).backward()
            optimizer.step()
