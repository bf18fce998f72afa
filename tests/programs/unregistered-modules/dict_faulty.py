# expect: unregistered-modules @ self.layers = {
# says: 4 parameters (layers['a'].bias, layers['a'].weight, layers['b'].bias and 1 more
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
        self.layers = {"a": nn.Linear(10, 16), "b": nn.Linear(16, 16)}
        self.out = nn.Linear(16, 2)

    def forward(self, x):
        for layer in self.layers.values():
            x = layer(x).relu()
        return self.out(x)


model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss()

for epoch in range(3):
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
