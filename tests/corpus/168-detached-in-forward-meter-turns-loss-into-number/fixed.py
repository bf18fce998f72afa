"""Multi-task net: a dict of losses, weighted and summed."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(16, 48), nn.ReLU())
        self.heads = nn.ModuleDict({"kind": nn.Linear(48, 4), "size": nn.Linear(48, 1)})

    def forward(self, x):
        h = self.trunk(x)
        return {name: head(h) for name, head in self.heads.items()}


class Criterion:
    weights = {"kind": 1.0, "size": 0.5}

    def __call__(self, out, target):
        losses = {
            "kind": nn.functional.cross_entropy(out["kind"], target["kind"]),
            "size": nn.functional.smooth_l1_loss(out["size"].squeeze(-1), target["size"]),
        }
        return losses


class Meter:
    def __init__(self):
        self.sums, self.count = {}, 0

    def add(self, losses):
        self.count += 1
        for name, value in losses.items():
            number = value.item()
            self.sums[name] = self.sums.get(name, 0.0) + number
        return losses

    def __str__(self):
        return " ".join(f"{k} {v / self.count:.3f}" for k, v in self.sums.items())


def main():
    torch.manual_seed(0)
    x = torch.randn(400, 16)
    kind, size = x[:, :4].argmax(1), x.pow(2).mean(1)
    loader = DataLoader(TensorDataset(x, kind, size), batch_size=32, shuffle=True)
    model, criterion = MultiTask(), Criterion()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(4):
        meter = Meter()
        for bx, bk, bs in loader:
            losses = meter.add(criterion(model(bx), {"kind": bk, "size": bs}))
            loss = sum(criterion.weights[k] * v for k, v in losses.items())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        print(epoch, meter)


main()
