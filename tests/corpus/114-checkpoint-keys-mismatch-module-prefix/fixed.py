import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
d = load_digits()
x = torch.tensor(d.images, dtype=torch.float32)[:, None] / 8 - 1
y = torch.tensor(d.target)


class ConvNet(nn.Module):
    def __init__(self, n=10):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                                      nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
        self.classifier = nn.Linear(64, n)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def fit(net, x, y, epochs, lr):
    opt = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=lr)
    for e in range(epochs):
        net.train()
        for i in torch.randperm(len(x)).split(64):
            opt.zero_grad()
            loss = F.cross_entropy(net(x[i]), y[i])
            loss.backward()
            opt.step()
        print(f"  epoch {e} loss {loss.item():.3f}")


print("pretraining")
pre = nn.DataParallel(ConvNet())
fit(pre, x[:1000], y[:1000], 4, 5e-3)
torch.save(pre.state_dict(), "pretrained.pth")

print("fine-tuning")
net = ConvNet()
state = torch.load("pretrained.pth")
state = {k.removeprefix("module."): v for k, v in state.items()}
net.load_state_dict(state, strict=False)
fit(net, x[1000:1300], y[1000:1300], 2, 1e-3)
net.eval()
with torch.no_grad():
    print(f"test accuracy {(net(x[1300:]).argmax(1) == y[1300:]).float().mean():.3f}")
