"""Folds that share one network, set back in place before each, with calibration on the held-out part."""
import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset


def reset(module):
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()


def split(count, k):
    parts = torch.randperm(count).chunk(k)
    for i, held_out in enumerate(parts):
        yield torch.cat([p for j, p in enumerate(parts) if j != i]).tolist(), held_out.tolist()


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    logits, labels = zip(*((model(x), y) for x, y in loader))
    model.train()
    return torch.cat(logits), torch.cat(labels)


def temperature(logits, labels):
    """One number that makes the held-out confidence right; the network stays as it is."""
    log_t = nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.LBFGS([log_t], lr=0.5, max_iter=20)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(logits / log_t.exp(), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_t.exp().item()


def main(k=4, epochs=6, patience=2):
    torch.manual_seed(0)
    x = torch.randn(480, 8)
    y = ((x[:, :2].prod(1) > 0).long() + (x[:, 2] > 1).long()).clamp(max=2)
    data = TensorDataset(x, y)
    model = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 3))
    for fold, (inside, outside) in enumerate(split(len(data), k)):
        model.apply(reset)
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        training = DataLoader(Subset(data, inside), 40, shuffle=True)
        held_out = DataLoader(Subset(data, outside), 60)
        best, waited, kept = float("inf"), 0, None
        for _ in range(epochs):
            for xb, yb in training:
                optimizer.zero_grad()
                F.cross_entropy(model(xb), yb, label_smoothing=0.05).backward()
                optimizer.step()
            loss = F.cross_entropy(*evaluate(model, held_out)).item()
            if loss < best:
                best, waited, kept = loss, 0, copy.deepcopy(model.state_dict())
            else:
                waited += 1
            if waited > patience:
                break
        model.load_state_dict(kept)
        print(f"fold {fold}: {best:.4f}, temperature {temperature(*evaluate(model, held_out)):.2f}")


if __name__ == "__main__":
    main()
