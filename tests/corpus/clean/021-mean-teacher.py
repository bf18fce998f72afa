import copy
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_moons

torch.manual_seed(21)
X, y = make_moons(500, noise=0.15, random_state=0)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
labelled = torch.randperm(500)[:20]
student = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))
teacher = copy.deepcopy(student).requires_grad_(False)
teacher.eval()
opt = torch.optim.Adam(student.parameters(), lr=5e-3)
for step in range(1, 201):
    student.train()
    u = X[torch.randint(0, 500, (64,))]
    ce = F.cross_entropy(student(X[labelled]), y[labelled])
    with torch.no_grad():
        target = teacher(u + 0.05 * torch.randn_like(u)).softmax(1)
    cons = F.mse_loss(student(u + 0.05 * torch.randn_like(u)).softmax(1), target)
    loss = ce + min(1.0, step / 100) * cons
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        for t, s in zip(teacher.parameters(), student.parameters()):
            t.mul_(0.97).add_(s, alpha=0.03)
    if step % 50 == 0:
        with torch.no_grad():
            print(step, f"{loss.item():.4f} teacher acc {(teacher(X).argmax(1) == y).float().mean():.3f}")
