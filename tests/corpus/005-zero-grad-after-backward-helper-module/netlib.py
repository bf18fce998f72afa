import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_wine


def wine_loaders(batch_size, seed):
    data = load_wine()
    g = torch.Generator().manual_seed(seed)
    X = torch.tensor(data.data, dtype=torch.float32)
    y = torch.tensor(data.target)
    perm = torch.randperm(len(X), generator=g)
    X, y = X[perm], y[perm]
    mu, sd = X[:130].mean(0), X[:130].std(0)
    X = (X - mu) / sd
    train = DataLoader(TensorDataset(X[:130], y[:130]), batch_size=batch_size, shuffle=True, generator=g)
    test = DataLoader(TensorDataset(X[130:], y[130:]), batch_size=64)
    return train, test


def mlp(sizes):
    layers = []
    for a, b in zip(sizes[:-2], sizes[1:-1]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    layers.append(nn.Linear(sizes[-2], sizes[-1]))
    return nn.Sequential(*layers)


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    hits = sum((model(x).argmax(-1) == y).sum().item() for x, y in loader)
    return hits / len(loader.dataset)
