import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

torch.manual_seed(15)
d = load_digits()
X = d.data / 8 - 1
# soft labels come from a fitted sklearn model
oracle = LogisticRegression(max_iter=200, C=0.05).fit(X[:500], d.target[:500])
soft = torch.tensor(oracle.predict_proba(X[500:1500]), dtype=torch.float32)
x = torch.tensor(X[500:1500], dtype=torch.float32)
xt, yt = torch.tensor(X[1500:], dtype=torch.float32), torch.tensor(d.target[1500:])

student = nn.Sequential(nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))
optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
for epoch in range(8):
    student.train()
    for b in torch.randperm(1000).split(50):
        logits = student(x[b])
        loss = F.kl_div(F.log_softmax(logits, dim=1), soft[b], reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    student.eval()
    with torch.no_grad():
        acc = (student(xt).argmax(1) == yt).float().mean()
    print(f"epoch {epoch} kl {loss.item():.4f} acc {acc.item():.3f}")
