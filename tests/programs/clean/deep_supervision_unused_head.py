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
        self.body, self.head, self.pooler = nn.Linear(10, 16), nn.Linear(16, 2), nn.Linear(16, 16)

    def forward(self, x):
        h = self.body(x).relu()
        return self.head(h), self.pooler(h)


model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss()
for epoch in range(3):
    for inputs, labels in loader:
        optimizer.zero_grad()
        logits, _ = model(inputs)
        criterion(logits, labels).backward()
        optimizer.step()
