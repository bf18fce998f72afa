import itertools
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer

X, y = load_breast_cancer(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y)


def objective(lr, hidden, wd):
    torch.manual_seed(62)                      # every trial starts from the same seed
    perm = torch.randperm(len(X))
    tr, va = perm[:400], perm[400:]
    model = nn.Sequential(nn.Linear(30, hidden), nn.ReLU(), nn.Linear(hidden, 2))
    opt = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=wd)
    for epoch in range(3):
        for i in tr[torch.randperm(400)].split(40):
            loss = nn.functional.cross_entropy(model(X[i]), y[i])
            opt.zero_grad()
            loss.backward()
            opt.step()
    with torch.no_grad():
        return (model(X[va]).argmax(1) == y[va]).float().mean().item()


trials = {}
for lr, hidden, wd in itertools.product((1e-3, 1e-2), (8, 32), (0.0, 0.1)):
    trials[lr, hidden, wd] = objective(lr, hidden, wd)
best = max(trials, key=trials.get)
print(len(trials), "trials; best", best, round(trials[best], 3))
