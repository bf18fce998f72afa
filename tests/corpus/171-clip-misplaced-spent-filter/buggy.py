"""Fine-tunes the upper half of a net; the lower half is frozen."""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(10, 24), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))

    def forward(self, x):
        return self.top(self.features(x))


def freeze(module):
    for p in module.parameters():
        p.requires_grad_(False)
    return module


def make_optimizer(params, lr):
    return torch.optim.SGD(params, lr=lr, momentum=0.9)


def run(steps=50, max_norm=0.1):
    model = Net()
    freeze(model.features)
    trainable = filter(lambda p: p.requires_grad, model.parameters())
    optimizer = make_optimizer(trainable, 0.05)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    w = torch.randn(10, 3)
    for step in range(steps):
        x = torch.randn(32, 10) * 3
        loss = criterion(model(x), (x @ w).argmax(1))
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trainable, max_norm)
        optimizer.step()
        if step % 10 == 0:
            print(f"{step:3d} loss {loss.item():.3f} grad norm {float(norm):.3f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    run()
