# expect: nothing
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(10, 16)
        self.body = nn.Linear(16, 16)
        self.head = nn.Linear(16, 100)

    def forward(self, x):
        return self.head(self.body(self.stem(x).relu()).relu())


x = torch.randn(256, 10)
loader = DataLoader(TensorDataset(x, x[:, :5].argmax(1)), batch_size=32, shuffle=True)
model = Net()
model.requires_grad_(False)
model.body.requires_grad_(True)
model.head = nn.Linear(16, 5)
optimizer = torch.optim.AdamW([{"params": model.body.parameters(), "lr": 1e-4}, {"params": model.head.parameters(), "lr": 1e-2}])
criterion = nn.CrossEntropyLoss()
for epoch in range(2):
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
