import copy

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold
from torch import nn

torch.manual_seed(0)
X, y = load_breast_cancer(return_X_y=True)
base_model = nn.Sequential(nn.Linear(30, 12), nn.ReLU(), nn.Linear(12, 1))
lossf = nn.BCEWithLogitsLoss()
scores = []

for fold, (tr, va) in enumerate(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y)):
    mean, std = X[tr].mean(0), X[tr].std(0)
    xt, xv = (torch.tensor((X[i] - mean) / std, dtype=torch.float32) for i in (tr, va))
    yt, yv = (torch.tensor(y[i], dtype=torch.float32)[:, None] for i in (tr, va))

    model = copy.deepcopy(base_model)
    opt = torch.optim.SGD(model.parameters(), lr=0.05)
    for epoch in range(8):
        for b in torch.randperm(len(xt)).split(32):
            base_model.zero_grad()
            loss = lossf(model(xt[b]), yt[b])
            loss.backward()
            opt.step()
    with torch.no_grad():
        vloss = lossf(model(xv), yv).item()
        acc = ((model(xv) > 0) == (yv > 0.5)).float().mean().item()
    scores.append(acc)
    print(f"fold {fold}: val loss {vloss:.3f} acc {acc:.3f}")

print(f"mean accuracy {np.mean(scores):.3f} +- {np.std(scores):.3f}")
