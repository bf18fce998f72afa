import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold

X, y = load_breast_cancer(return_X_y=True)
scores = []
for fold, (tr, te) in enumerate(StratifiedKFold(4, shuffle=True, random_state=0).split(X, y)):
    torch.manual_seed(fold)
    mu, sd = X[tr].mean(0), X[tr].std(0)
    xt, xe = (torch.tensor((X[i] - mu) / sd, dtype=torch.float32) for i in (tr, te))
    yt, ye = torch.tensor(y[tr]), torch.tensor(y[te])
    model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.5)
    for epoch in range(6):
        model.train()
        for i in torch.randperm(len(xt)).split(32):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(xt[i]), yt[i])
            loss.backward()
            optimizer.step()
        scheduler.step()
    model.eval()
    with torch.no_grad():
        scores.append((model(xe).argmax(1) == ye).float().mean().item())
    print(f"fold {fold}: {scores[-1]:.3f}")
print("mean", round(float(np.mean(scores)), 3))
