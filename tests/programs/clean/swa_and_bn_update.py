# expect: nothing
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

from torch.optim.swa_utils import SWALR, AveragedModel, update_bn

model = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
averaged = AveragedModel(model)
swa_scheduler = SWALR(optimizer, swa_lr=0.05)
criterion = nn.CrossEntropyLoss()
for epoch in range(6):
    model.train()
    for inputs, labels in loader:
        optimizer.zero_grad()
        criterion(model(inputs), labels).backward()
        optimizer.step()
    if epoch > 3:
        averaged.update_parameters(model)
        swa_scheduler.step()
update_bn(loader, averaged)
averaged.eval()
with torch.no_grad():
    print((averaged(x).argmax(1) == y).float().mean().item())
