import numpy as np
import torch
from sklearn.datasets import make_regression
from torch.utils.data import DataLoader, TensorDataset


def regression_loaders(n=900, d=15, batch=30, seed=0):
    X, y = make_regression(n_samples=n, n_features=d, n_informative=10, noise=5.0, random_state=seed)
    X = (X - X.mean(0)) / X.std(0)
    y = (y - y.mean()) / y.std()
    X, y = torch.from_numpy(X.astype(np.float32)), torch.from_numpy(y.astype(np.float32)).view(-1, 1)
    cut = int(0.8 * n)
    return (DataLoader(TensorDataset(X[:cut], y[:cut]), batch_size=batch, shuffle=True),
            DataLoader(TensorDataset(X[cut:], y[cut:]), batch_size=200))
