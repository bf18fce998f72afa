import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(44)
d = load_digits()
x = torch.tensor(d.data / 16.0 - 0.3, dtype=torch.float32)
y = torch.tensor(d.target)
perm = torch.randperm(len(x))
tr, te = perm[:1400], perm[1400:]


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU())
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        return self.head(self.backbone(x))


def set_trainable(module, flag):
    module.requires_grad_(flag)


model = Classifier()
for p in model.backbone.parameters():
    p.requires_grad = False
optimizer = torch.optim.SGD([{"params": model.backbone.parameters(), "lr": 0.05},
                             {"params": model.head.parameters(), "lr": 0.1}], momentum=0.9)

for epoch in range(8):
    if epoch == 2:
        print("unfreezing the backbone")
        set_trainable(model.backbone, True)
    model.train()
    for b in tr[torch.randperm(len(tr))].split(70):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[b]), y[b])
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        acc = (model(x[te]).argmax(1) == y[te]).float().mean()
    print(f"epoch {epoch} loss {loss.item():.3f} test {acc:.3f}")
