import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(9)


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
                                    nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                                    nn.AdaptiveAvgPool2d(2), nn.Flatten())

    def forward(self, x):
        return self.layers(x)


class Model(nn.Module):
    def __init__(self, backbone, n_out):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(64, n_out)

    def forward(self, x):
        return self.head(self.backbone(x))


def run_epochs(model, opt, x, y, epochs, frozen=False):
    ce = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        model.train()
        if frozen:
            model.backbone.eval()
        for idx in torch.randperm(len(x)).split(64):
            loss = ce(model(x[idx]), y[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
        model.eval()
        with torch.no_grad():
            acc = (model(x).argmax(1) == y).float().mean().item()
        print(f"  epoch {epoch} loss {loss.item():.3f} acc {acc:.3f}")


d = load_digits()
x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
y = torch.tensor(d.target)
old = y < 6
print("pretraining on 0-5")
pre = Model(Backbone(), 6)
run_epochs(pre, torch.optim.Adam(pre.parameters(), lr=3e-3), x[old], y[old], 2)

print("linear probe on 6-9, inverted images")
probe = Model(pre.backbone, 4)
for p in probe.backbone.parameters():
    p.requires_grad = False
optimizer = torch.optim.Adam(probe.head.parameters(), lr=5e-3)
run_epochs(probe, optimizer, -x[~old], y[~old] - 6, 3, frozen=True)
