# expect: nothing
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss()


def sam_step(inputs, labels, rho=0.05):
    def loss_and_grads():
        loss = criterion(model(inputs), labels)
        loss.backward()
        return loss

    loss_and_grads()
    with torch.no_grad():
        norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
        moves = [p.grad * rho / (norm + 1e-12) for p in model.parameters()]
        for p, move in zip(model.parameters(), moves):
            p.data.add_(move)
    optimizer.zero_grad()
    loss_and_grads()
    with torch.no_grad():
        for p, move in zip(model.parameters(), moves):
            p.data.sub_(move)
    optimizer.step()
    optimizer.zero_grad()


for epoch in range(3):
    for inputs, labels in loader:
        sam_step(inputs, labels)
