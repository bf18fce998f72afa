"""Five folds of a small table, each with early stopping on its own held-out part."""
import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset


class EarlyStopping:
    def __init__(self, patience=3):
        self.patience, self.best, self.waited, self.state = patience, float("inf"), 0, None

    def __call__(self, score, model):
        if score < self.best:
            self.best, self.waited = score, 0
            self.state = copy.deepcopy(model.state_dict())
        else:
            self.waited += 1
        return self.waited >= self.patience


def folds(count, k, seed=0):
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    parts = order.chunk(k)
    for i in range(k):
        yield torch.cat([part for j, part in enumerate(parts) if j != i]).tolist(), parts[i].tolist()


def loaders(dataset, train_idx, val_idx, batch_size=40):
    train_loader = DataLoader(dataset, batch_size, sampler=SubsetRandomSampler(train_idx))
    val_loader = DataLoader(dataset, batch_size, sampler=SubsetRandomSampler(val_idx))
    return train_loader, val_loader


def epoch_of(model, loader, criterion, optimizer=None):
    model.train(optimizer is not None)
    total = count = 0
    with torch.set_grad_enabled(optimizer is not None):
        for x, y in loader:
            loss = criterion(model(x), y)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total += loss.item() * len(x)
            count += len(x)
    return total / count


def cross_validate(dataset, k=5, epochs=6):
    scores = []
    for fold, (train_idx, val_idx) in enumerate(folds(len(dataset), k)):
        torch.manual_seed(fold)
        model = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Dropout(0.2), nn.Linear(48, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
        train_loader, val_loader = loaders(dataset, train_idx, val_idx)
        stop = EarlyStopping()
        for _ in range(epochs):
            epoch_of(model, train_loader, nn.MSELoss(), optimizer)
            if stop(epoch_of(model, val_loader, nn.MSELoss()), model):
                break
        model.load_state_dict(stop.state)
        scores.append(stop.best)
        print(f"fold {fold}: {stop.best:.4f}")
    return sum(scores) / len(scores)


if __name__ == "__main__":
    generator = torch.Generator().manual_seed(42)
    x = torch.randn(400, 12, generator=generator)
    y = x[:, :1] * x[:, 1:2] + 0.5 * x[:, 2:3] + 0.1 * torch.randn(400, 1, generator=generator)
    print("mean", cross_validate(TensorDataset(x, y)))
