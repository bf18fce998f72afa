import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

TASKS = {"sum": 1, "max": 1, "argmax": 6}


class VectorTasks(Dataset):
    def __init__(self, size, seed):
        gen = torch.Generator().manual_seed(seed)
        self.v = torch.randn(size, 6, generator=gen)

    def __getitem__(self, index):
        v = self.v[index]
        return v, {"sum": v.sum() / 6 ** 0.5, "max": v.max(), "argmax": v.argmax()}

    def __len__(self):
        return self.v.shape[0]


class MultiHead(nn.Module):
    def __init__(self, tasks):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(64, n) for name, n in tasks.items()})

    def forward(self, x):
        h = self.body(x)
        return {name: head(h) for name, head in self.heads.items()}


def loss_per_task(out, target):
    return {"sum": F.mse_loss(out["sum"].squeeze(-1), target["sum"]),
            "max": F.mse_loss(out["max"].squeeze(-1), target["max"]),
            "argmax": F.cross_entropy(out["argmax"], target["argmax"])}


def train(model, loader, opt):
    model.train()
    for v, target in loader:
        losses = loss_per_task(model(v), target)
        opt.zero_grad()
        sum(losses.values()).backward()
        opt.step()


@torch.no_grad()
def test(model, loader):
    model.eval()
    agg = dict.fromkeys(TASKS, 0.0)
    for v, target in loader:
        for k, l in loss_per_task(model(v), target).items():
            agg[k] += l.item() / len(loader)
    return agg


if __name__ == "__main__":
    torch.manual_seed(0)
    model = MultiHead(TASKS)
    opt = torch.optim.NAdam(model.parameters(), lr=2e-3)
    tr, te = DataLoader(VectorTasks(800, 0), 40, shuffle=True), DataLoader(VectorTasks(200, 1), 100)
    for e in range(5):
        train(model, tr, opt)
        print("epoch", e, {k: round(v, 4) for k, v in test(model, te).items()})
