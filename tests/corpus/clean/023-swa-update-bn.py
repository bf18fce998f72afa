import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, SWALR, update_bn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import make_classification

torch.manual_seed(23)
X, y = make_classification(900, 20, n_informative=10, n_classes=3, random_state=1)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y)
train = DataLoader(TensorDataset(X[:700], y[:700]), 50, shuffle=True)
model = nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
swa = AveragedModel(model)
opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
cosine = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=8)
swa_sched = SWALR(opt, swa_lr=0.05, anneal_epochs=2)
SWA_START = 5
for epoch in range(8):
    model.train()
    for xb, yb in train:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(xb), yb)
        loss.backward()
        opt.step()
    if epoch >= SWA_START:
        swa.update_parameters(model)
        swa_sched.step()
    else:
        cosine.step()
update_bn(train, swa)
swa.eval()
with torch.no_grad():
    print("swa accuracy", (swa(X[700:]).argmax(1) == y[700:]).float().mean().item())
