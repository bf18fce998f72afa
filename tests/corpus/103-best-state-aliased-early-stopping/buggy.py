import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_classification


class EarlyStopping:
    def __init__(self, patience=4):
        self.patience, self.bad = patience, 0
        self.best_score, self.best_weights = None, None

    def __call__(self, score, model):
        if self.best_score is None or score < self.best_score:
            self.best_score, self.bad = score, 0
            self.best_weights = model.state_dict()
        else:
            self.bad += 1
        return self.bad >= self.patience

    def restore(self, model):
        model.load_state_dict(self.best_weights)


torch.manual_seed(1)
X, y = make_classification(400, 30, n_informative=6, flip_y=0.15, random_state=1)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y)
Xtr, ytr, Xva, yva = X[:220], y[:220], X[220:], y[220:]
model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 2))
opt = torch.optim.Adam(model.parameters(), lr=5e-3)
stopper = EarlyStopping()
for epoch in range(60):
    model.train()
    for idx in torch.randperm(220).split(22):
        opt.zero_grad()
        loss = F.cross_entropy(model(Xtr[idx]), ytr[idx])
        loss.backward()
        opt.step()
    model.eval()
    with torch.no_grad():
        val = F.cross_entropy(model(Xva), yva).item()
    if stopper(val, model):
        print("early stop in epoch", epoch)
        break
stopper.restore(model)
with torch.no_grad():
    print(f"best val {stopper.best_score:.4f}, after restore {F.cross_entropy(model(Xva), yva).item():.4f}")
