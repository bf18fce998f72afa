import torch
import torch.nn as nn
from torch.optim import lr_scheduler
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

torch.manual_seed(0)
X, y = load_diabetes(return_X_y=True)
X = torch.tensor(scale(X), dtype=torch.float32)
y = torch.tensor(scale(y), dtype=torch.float32)[:, None]
model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 1))
criterion = nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
scheduler = lr_scheduler.MultiStepLR(optimizer, milestones=[4, 8], gamma=0.2)

for epoch in range(12):
    scheduler.step()
    running = 0.0
    for idx in torch.randperm(len(X)).split(34):
        optimizer.zero_grad()
        loss = criterion(model(X[idx]), y[idx])
        loss.backward()
        optimizer.step()
        running += loss.item()
    if epoch % 3 == 0:
        print("epoch %d lr %.4f loss %.4f" % (epoch, optimizer.param_groups[0]["lr"], running / 13))
