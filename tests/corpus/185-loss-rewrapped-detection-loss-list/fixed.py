"""A detector-like head with several losses which are gathered in a list."""
import torch
from torch import nn


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(18, 40), nn.ReLU())
        self.box, self.cls, self.obj = nn.Linear(40, 4), nn.Linear(40, 6), nn.Linear(40, 1)

    def forward(self, x):
        h = self.stem(x)
        return self.box(h).sigmoid(), self.cls(h), self.obj(h).squeeze(-1)


class DetectionLoss(nn.Module):
    def __init__(self, weights=(5.0, 1.0, 1.0)):
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights))

    def forward(self, out, target):
        box, cls, obj = out
        losses = [
            nn.functional.l1_loss(box, target["box"]),
            nn.functional.cross_entropy(cls, target["cls"]),
            nn.functional.binary_cross_entropy_with_logits(obj, target["obj"]),
        ]
        losses = torch.stack(losses)
        return (losses * self.weights).sum(), losses.tolist()


def targets(x):
    return {"box": x[:, :4].sigmoid(), "cls": x[:, 4:10].argmax(1), "obj": (x[:, 10] > 0).float()}


def main():
    torch.manual_seed(0)
    model, criterion = Heads(), DetectionLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    for step in range(60):
        x = torch.randn(32, 18)
        loss, parts = criterion(model(x), targets(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(step, loss.item(), [round(p, 3) for p in parts])


main()
